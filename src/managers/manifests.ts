/** Manifests: all of their objects written in one transaction or none, and the stored ones written as a manifest. Never programs anything. */
import type { Apply, Export } from '../../tools/manifest.ts';
import { httpPort } from '../compile/routes.ts';
import { ClawError } from '../errors.ts';
import { kubernetesNamespaceObject } from '../interop/kubernetes-namespace.ts';
import { nameOf, readObjects } from '../interop/manifest-objects.ts';
import { writeManifest } from '../interop/manifest.ts';
import { ingressObject, policyObject, serviceObject } from '../interop/written-objects.ts';
import { recordKey, type Named } from '../model/record.ts';
import { planObjects } from './manifest-plan.ts';
import { NO_TLS } from './ingresses.ts';
import { MAX_OBJECTS, requireRecord } from './records.ts';
import type { World } from './world.ts';

const DRY_RUN = 'dryRun: nothing was written';

export function manifestManager(world: World) {
  return {
    apply: async ({ manifest, dryRun }: Apply) => {
      const objects = await readObjects(manifest);
      if (objects.length === 0) throw new ClawError('INVALID_ARGUMENT', 'manifest: it holds no object', { path: 'manifest', hint: 'Give YAML or JSON with apiVersion, kind and metadata.' });
      if (objects.length > MAX_OBJECTS) {
        throw new ClawError('LIMIT_EXCEEDED', `manifest: it holds ${objects.length} objects, and ${MAX_OBJECTS} is the most`, { path: 'manifest', hint: 'Split it.' });
      }
      const { answer, revision } = await world.mutate(() => {
        const { change, actions, warnings } = planObjects(world, objects);
        const applied = objects.map((object, index) => ({ kind: object.kind, ...nameOf(object), action: actions[index] ?? ('unchanged' as const) }));
        // A dry run compares as the real one would, and writes nothing.
        return { compares: change.compares, ops: dryRun ? [] : change.ops, answer: { applied, warnings: [...warnings] } };
      });
      const ingresses = objects.flatMap((object) => (object.kind === 'Ingress' ? [object.spec] : []));
      const reason = dryRun ? DRY_RUN : ingresses.some(({ tls }) => tls) ? NO_TLS : undefined;
      return { answer, revision, ...(ingresses.length > 0 && !dryRun ? { served: true as const } : {}), ...(reason === undefined ? {} : { notEnforced: reason }) };
    },

    export: async ({ namespace }: Export) => {
      const { namespaces, services, ingresses, policies } = world.desired;
      if (namespace !== undefined) requireRecord(namespaces, `namespaces/${namespace}`, { code: 'NAMESPACE_NOT_FOUND', listWith: 'namespace.list' });
      const chosen = <Item extends Named>(records: ReadonlyMap<string, Item>): Item[] => inOrder(records).filter((item) => namespace === undefined || item.namespace === namespace);
      const portOf = (own: string) => (name: string) => {
        const service = services.get(recordKey('services', { namespace: own, name }));
        return service === undefined ? undefined : httpPort(service)?.port;
      };
      const manifest = writeManifest([
        ...inOrder(namespaces).filter(({ name }) => namespace === undefined || name === namespace).map(kubernetesNamespaceObject),
        ...chosen(services).map(serviceObject),
        ...chosen(ingresses).map((ingress) => ingressObject(ingress, portOf(ingress.namespace))),
        ...chosen(policies).map(policyObject),
      ]);
      return { answer: { manifest } };
    },
  };
}

/** The same state gives the same text. */
function inOrder<Item>(records: ReadonlyMap<string, Item>): Item[] {
  return [...records].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, item]) => item);
}
