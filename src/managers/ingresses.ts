/** Ingresses: their invariants and their store writes. Never programs anything. */
import type { CreateIngress, UpdateIngress } from '../../tools/ingress.ts';
import { admitted, claimedRoutes, httpPort, httpTargets, ingressAdmission, routeKey, type Admits } from '../compile/routes.ts';
import { ClawError } from '../errors.ts';
import type { Ingress, IngressRule } from '../model/ingress.ts';
import { recordKey, type Named } from '../model/record.ts';
import { page } from './paging.ts';
import { createRecord, deleteRecord, replaceRecord, requireRecord, requireRoom, type Change } from './records.ts';
import type { World } from './world.ts';

const MISSING = { code: 'INGRESS_NOT_FOUND', listWith: 'ingress.list' } as const;
export const NO_TLS = 'TLS is not built yet: the ingress is stored, and nothing is served in plain instead';

export function ingressManager(world: World) {
  const find = (input: Named): Ingress => requireRecord(world.desired.ingresses, recordKey('ingresses', input), MISSING);
  const written = (ingress: Ingress, revision: number) => ({
    answer: {
      namespace: ingress.namespace,
      name: ingress.name,
      tls: ingress.tls,
      success: true as const,
      urls: urls(world, ingress),
      warnings: warnings(world, ingress),
    },
    revision,
    ...(ingress.tls ? { notEnforced: NO_TLS } : {}),
  });

  return {
    create: async (input: CreateIngress) => {
      requireDistinct(input.rules);
      const { answer, revision } = await world.mutate(() => {
        const key = recordKey('ingresses', input);
        if (world.desired.ingresses.has(key)) {
          throw new ClawError('INGRESS_EXISTS', `ingress ${input.namespace}/${input.name} exists already`, {
            path: 'name',
            hint: 'ingress.update changes it; ingress.delete removes it.',
          });
        }
        requireRoomForRules(world, input.rules.length);
        const { ingress, ...change } = newIngress(world, input);
        return { ...change, answer: ingress };
      });
      return written(answer, revision);
    },

    update: async (input: UpdateIngress) => {
      if (input.rules !== undefined) requireDistinct(input.rules);
      const { answer, revision } = await world.mutate(() => {
        const old = find(input);
        if (input.rules !== undefined) requireRoomForRules(world, input.rules.length - old.rules.length);
        const updated: Ingress = { ...old, rules: input.rules ?? old.rules, tls: input.tls === undefined ? old.tls : (input.tls ?? false) };
        return { ...replaceRecord(world, recordKey('ingresses', input), updated), answer: updated };
      });
      return written(answer, revision);
    },

    delete: async (input: Named) => {
      const { answer, revision } = await world.mutate(() => ({
        ...deleteRecord(world, recordKey('ingresses', find(input))),
        answer: { namespace: input.namespace, name: input.name, deleted: true as const },
      }));
      return { answer, revision };
    },

    get: async (input: Named) => {
      const ingress = find(input);
      return { answer: shown(world, ingress, routing(world)), revision: world.desired.revision, ...(ingress.tls ? { notEnforced: NO_TLS } : {}) };
    },

    list: async (input: { limit: number; cursor?: string | undefined; namespace?: string | undefined }) => {
      const { items, ...paging } = page(world.desired.ingresses, input);
      const known = routing(world);
      return { answer: { ...paging, ingresses: items.map((ingress) => shown(world, ingress, known)) } };
    },
  };
}

/** An ingress that is not there yet, and the writes that make it. */
export function newIngress(world: World, input: Pick<Ingress, 'namespace' | 'name' | 'rules' | 'tls'>): Change & { readonly ingress: Ingress } {
  const { namespace, name, rules, tls } = input;
  requireRoom(world.desired.ingresses, 'ingresses');
  const ingress: Ingress = { v: 1, createdAt: world.now().toISOString(), namespace, name, rules, tls };
  return { ...createRecord(world, recordKey('ingresses', input), ingress), ingress };
}

/** Who answers which host and path, and what the proxy may dial. */
interface Routing {
  readonly claimed: ReturnType<typeof claimedRoutes>;
  readonly admits: Admits;
}

function routing(world: World): Routing {
  return { claimed: claimedRoutes(world.desired), admits: ingressAdmission(world.desired) };
}

function shown(world: World, ingress: Ingress, { claimed, admits }: Routing) {
  return {
    namespace: ingress.namespace,
    name: ingress.name,
    rules: ingress.rules.map((rule) => ({ ...rule, ready: claimed.get(routeKey(rule))?.ingress === ingress && hasTarget(world, { ingress, rule, admits }) })),
    tls: ingress.tls,
    urls: urls(world, ingress),
    createdAt: ingress.createdAt,
  };
}

/** Whether the proxy has a healthy endpoint that it may dial. */
function hasTarget(world: World, { ingress, rule, admits }: { ingress: Ingress; rule: IngressRule; admits: Admits }): boolean {
  const service = world.desired.services.get(recordKey('services', { namespace: ingress.namespace, name: rule.service }));
  return service !== undefined && admitted(httpTargets(service, world.endpointsOf), admits).targets.length > 0;
}

/** Where its rules answer; a TLS ingress answers nowhere yet. */
function urls(world: World, ingress: Ingress): string[] {
  if (ingress.tls) return [];
  const { port } = world.health().ingress;
  return ingress.rules.map((rule) => `http://${rule.host}:${port}${rule.path}`);
}

/** What the user should know but may have meant: an ingress is accepted before its service exists. */
function warnings(world: World, ingress: Ingress): string[] {
  if (ingress.tls) return [];
  const { claimed, admits } = routing(world);
  const taken = ingress.rules.flatMap((rule) => {
    const winner = claimed.get(routeKey(rule))?.ingress;
    if (winner === undefined || (winner.namespace === ingress.namespace && winner.name === ingress.name)) return [];
    return [`ingress ${winner.namespace}/${winner.name} is older and answers ${rule.host}${rule.path}`];
  });
  return [...unanswered(world, ingress, admits), ...taken];
}

/** The services that can not answer it as things are. */
export function unanswered(world: World, ingress: Pick<Ingress, 'namespace' | 'rules'>, admits: Admits): string[] {
  const names = [...new Set(ingress.rules.map((rule) => rule.service))];
  return names.flatMap((name) => {
    const service = world.desired.services.get(recordKey('services', { namespace: ingress.namespace, name }));
    if (service === undefined) return [`service ${name} does not exist yet: until then requests are answered with 503`];
    if (httpPort(service) === undefined) return [`service ${name} has no TCP port: requests are answered with 503`];
    if (admitted(httpTargets(service, world.endpointsOf), admits).refused === true) return [`network policies do not admit the ingress to service ${name}: requests are answered with 403`];
    return [];
  });
}

/** Of all ingresses together. The proxy takes all of its routes at once, and this many within a second or two. */
const MAX_RULES = 50_000;

/** What the proxy could no longer take would keep every other ingress from being changed as well. */
export function requireRoomForRules(world: World, more: number): void {
  if (more <= 0) return;
  let rules = 0;
  for (const ingress of world.desired.ingresses.values()) rules += ingress.rules.length;
  if (rules + more <= MAX_RULES) return;
  throw new ClawError('LIMIT_EXCEEDED', `all ingresses together have ${rules} rules, and ${MAX_RULES} is the most`, {
    path: 'rules',
    hint: 'Delete ingresses that are no longer needed, or give fewer rules.',
  });
}

export function requireDistinct(rules: readonly IngressRule[]): void {
  const seen = new Set<string>();
  for (const [index, rule] of rules.entries()) {
    if (seen.has(routeKey(rule))) {
      throw new ClawError('INVALID_ARGUMENT', `host ${rule.host} and path ${rule.path} stand there twice`, {
        path: `rules[${index}]`,
        hint: 'Give each host and path one service.',
      });
    }
    seen.add(routeKey(rule));
  }
}
