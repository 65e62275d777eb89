/** Works out what a manifest's objects change: which are made anew, which differ from what is stored, and which are refused. Writes nothing. */
import { isDeepStrictEqual } from 'node:util';
import { httpPort, ingressAdmission } from '../compile/routes.ts';
import { ClawError } from '../errors.ts';
import type { ManifestObject } from '../interop/manifest-objects.ts';
import { at } from '../interop/refusal.ts';
import { recordKey } from '../model/record.ts';
import { openDraft } from './draft.ts';
import { newIngress, requireDistinct, requireRoomForRules, unanswered } from './ingresses.ts';
import { newNamespace, requireOwnNameLabel } from './namespaces.ts';
import { newPolicy } from './policies.ts';
import { replaceRecord, type Change } from './records.ts';
import { changedService, DESERTED, isDeserted, newService } from './services.ts';
import { parseServiceSpec } from './service-spec.ts';
import type { World } from './world.ts';

export type Action = 'created' | 'updated' | 'unchanged';

export interface ObjectsPlan {
  readonly change: Change;
  /** In the order of the objects. */
  readonly actions: readonly Action[];
  readonly warnings: readonly string[];
}

/** Labels of a namespace count before what lies in it, services before the ingresses that name their ports. */
const ORDER = ['Namespace', 'Service', 'Ingress', 'NetworkPolicy'] as const;

/** Throws what creating or updating each of them would throw, with its path in the manifest. */
export function planObjects(real: World, objects: readonly ManifestObject[]): ObjectsPlan {
  const draft = openDraft(real);
  const steps = new Map<ManifestObject, Step>();
  at('manifest', () => requireRoomForRules(real, moreRules(real, objects)), () => '');
  for (const kind of ORDER) {
    for (const object of objects) {
      if (object.kind !== kind) continue;
      const step = at(object.place, () => plan(draft.world, object), (path) => placeIn(object, path));
      draft.add(step);
      steps.set(object, step);
    }
  }
  return {
    change: draft.change(),
    actions: objects.flatMap((object) => steps.get(object)?.action ?? []),
    warnings: warningsOf(draft.world, objects),
  };
}

/** What is allowed and may be meant, but leaves somebody without an answer once all of it is applied. */
function warningsOf(world: World, objects: readonly ManifestObject[]): string[] {
  const admits = ingressAdmission(world.desired);
  return objects.flatMap((object) => {
    const service = object.kind === 'Service' ? world.desired.services.get(recordKey('services', object.named)) : undefined;
    const deserted = service !== undefined && isDeserted(service) ? [DESERTED] : [];
    const own = object.kind === 'Ingress' && !object.spec.tls ? unanswered(world, object.spec, admits) : deserted;
    return own.map((warning) => `${object.place}: ${warning}`);
  });
}

interface Step extends Change {
  readonly action: Action;
}

function plan(world: World, object: ManifestObject): Step {
  switch (object.kind) {
    case 'Namespace':
      return planNamespace(world, object);
    case 'Service':
      return planService(world, object);
    case 'Ingress':
      return planIngress(world, object);
    case 'NetworkPolicy':
      return planPolicy(world, object);
  }
  return object satisfies never;
}

type ObjectOf<Kind extends ManifestObject['kind']> = Extract<ManifestObject, { kind: Kind }>;

function planNamespace(world: World, { spec: { name, labels } }: ObjectOf<'Namespace'>): Step {
  requireOwnNameLabel(name, labels);
  const key = `namespaces/${name}`;
  const old = world.desired.namespaces.get(key);
  if (old === undefined) return created(newNamespace(world, { name, labels }));
  return changed(world, { key, old, next: { ...old, labels } });
}

function planService(world: World, { named, form, wish }: ObjectOf<'Service'>): Step {
  const spec = parseServiceSpec(world, form);
  const key = recordKey('services', named);
  const old = world.desired.services.get(key);
  if (wish !== undefined && wish.ip !== old?.clusterIp) {
    throw new ClawError('INVALID_ARGUMENT', old === undefined ? `a virtual IP is not chosen: this node gives one out` : `its virtual IP is ${old.clusterIp} and stays`, { path: wish.path, hint: 'Leave it out.' });
  }
  return old === undefined ? created(newService(world, named, spec)) : changed(world, { key, old, next: changedService(old, spec) });
}

function planIngress(world: World, { spec, ports = [] }: ObjectOf<'Ingress'>): Step {
  requireDistinct(spec.rules);
  const key = recordKey('ingresses', spec);
  const old = world.desired.ingresses.get(key);
  const looked = spec.rules.map((rule, index) => {
    const service = recordKey('services', { namespace: spec.namespace, name: rule.service });
    const port = ports[index];
    if (port !== undefined) requireAnsweringPort(world, { service, port, path: `rules[${index}].backend.service.port` });
    return { key: service, modRevision: world.modRevision(service) };
  });
  const step = old === undefined ? created(newIngress(world, spec)) : changed(world, { key, old, next: { ...old, rules: spec.rules, tls: spec.tls } });
  return { ...step, compares: [...step.compares, ...(ports.length > 0 ? looked : [])] };
}

function planPolicy(world: World, { spec }: ObjectOf<'NetworkPolicy'>): Step {
  const key = recordKey('policies', spec);
  const old = world.desired.policies.get(key);
  if (old === undefined) return created(newPolicy(world, spec));
  return changed(world, { key, old, next: { v: old.v, createdAt: old.createdAt, ...spec } });
}

function created({ compares, ops }: Change): Step {
  return { action: 'created', compares, ops };
}

function changed<Item>(world: World, { key, old, next }: { key: string; old: Item; next: Item }): Step {
  const { compares, ops } = replaceRecord(world, key, next);
  return isDeepStrictEqual(old, next) ? { action: 'unchanged', compares, ops: [] } : { action: 'updated', compares, ops };
}

interface PortCheck {
  readonly service: string;
  readonly port: { readonly number: number } | { readonly name: string };
  readonly path: string;
}

/** A service that does not exist yet is a warning, as everywhere. */
function requireAnsweringPort(world: World, { service: key, port, path }: PortCheck): void {
  const service = world.desired.services.get(key);
  if (service === undefined) return;
  const first = httpPort(service);
  if (first !== undefined && ('number' in port ? port.number === first.port : port.name === first.name)) return;
  const wished = 'number' in port ? String(port.number) : port.name;
  const why = first === undefined ? 'it has none' : `that is ${first.port}${first.name === undefined ? '' : ` (${first.name})`}`;
  throw new ClawError('INVALID_ARGUMENT', `port ${wished} of service ${service.name} can not be served: an ingress leads to the first TCP port of a service, and ${why}`, {
    path,
    hint: 'Name that port, put it first in the service, or make a service of its own for the other one.',
  });
}

/** How many rules of ingresses it adds to those that are stored. */
function moreRules(world: World, objects: readonly ManifestObject[]): number {
  return objects.reduce((sum, object) => {
    if (object.kind !== 'Ingress') return sum;
    return sum + object.spec.rules.length - (world.desired.ingresses.get(recordKey('ingresses', object.spec))?.rules.length ?? 0);
  }, 0);
}

/** Where a command's argument stands in the object: `name` in its metadata, rules of an Ingress of Kubernetes below their hosts. */
function placeIn(object: ManifestObject, path: string): string {
  if (path.startsWith('spec.')) return path;
  if (path === 'name' || path === 'namespace' || path.startsWith('labels.')) return `metadata.${path}`;
  const [, rule = '', rest = ''] = /^rules\[(\d+)\](.*)$/.exec(path) ?? [];
  const place = object.kind === 'Ingress' && rule !== '' ? object.places?.[Number(rule)] : undefined;
  return place === undefined ? `spec.${path}` : `${place}${rest}`;
}
