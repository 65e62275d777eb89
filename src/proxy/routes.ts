/** Turns snapshots into the live routing table and swaps it by one reference; a bad rule is refused alone. */
import { z } from 'zod';
import { ClawError } from '../errors.ts';
import { host as hostSchema, pathPrefix } from '../model/ingress.ts';
import { routeSnapshot, routeTarget, type RouteTarget } from '../model/route-snapshot.ts';
import type { DialGuard } from './dial-guard.ts';
import type { EndpointGroup, EndpointRegistry } from './endpoints.ts';
import { buildRoutingTable, type RoutingRule, type RoutingTable } from './routing-table.ts';

export const refusedRoute = z.object({
  /** Position in the snapshot. */
  index: z.int(),
  host: z.string().optional(),
  path: z.string().optional(),
  ingress: z.string().optional(),
  reason: z.string(),
});
export type RefusedRoute = z.infer<typeof refusedRoute>;

export interface LiveRoutes {
  /** Undefined until the first snapshot has come. */
  readonly version: () => number | undefined;
  readonly table: () => RoutingTable<EndpointGroup>;
  /**
   * Applies a snapshot; when it returns, requests are routed by it. Throws ClawError `INVALID_ARGUMENT` when it is no snapshot and
   * `CONFLICT` when a newer one has been applied.
   */
  readonly apply: (snapshot: unknown) => { version: number; refused: RefusedRoute[] };
}

export function createLiveRoutes(endpoints: EndpointRegistry, guard: DialGuard): LiveRoutes {
  let version: number | undefined;
  let table = buildRoutingTable<EndpointGroup>([]);
  return {
    version: () => version,
    table: () => table,
    apply: (snapshot) => {
      const { version: offered, routes } = parseEnvelope(snapshot);
      if (version !== undefined && offered < version) {
        throw new ClawError('CONFLICT', `version ${offered} is older than the applied version ${version}`, { path: 'version' });
      }
      const { rules, refused } = readRoutes(routes, guard);
      const live = rules.map(({ host, path, value }) => ({ host, path, value: endpoints.group(value) }));
      table = buildRoutingTable(live);
      version = offered;
      // Only now, when no new request can choose them, are the endpoints closed that nobody names any more.
      endpoints.retain(live.map((rule) => rule.value));
      return { version: offered, refused };
    },
  };
}

const envelope = routeSnapshot.extend({ routes: z.array(z.unknown()) });
/** A rule's own part: without it there is no place in the table that the rule could hold. */
const place = z.object({ host: hostSchema, path: pathPrefix });
const label = z.object({ host: z.string().optional().catch(undefined), path: z.string().optional().catch(undefined), ingress: z.string().optional().catch(undefined) });
const rest = z.strictObject({ host: z.string(), path: z.string(), ingress: z.string(), service: z.string(), targets: z.array(z.unknown()) });

function parseEnvelope(snapshot: unknown): z.infer<typeof envelope> {
  const parsed = envelope.safeParse(snapshot);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new ClawError('INVALID_ARGUMENT', issue?.message ?? 'not a route snapshot', { path: issue?.path.map(String).join('.') ?? '' });
}

/**
 * A rule with a valid host and path keeps its place even when all its targets are refused and then answers 503: were it dropped,
 * its requests would fall through to a shorter prefix and reach a service they were never meant for.
 */
function readRoutes(routes: readonly unknown[], guard: DialGuard): { rules: RoutingRule<RouteTarget[]>[]; refused: RefusedRoute[] } {
  const rules = new Map<string, RoutingRule<RouteTarget[]>>();
  const refused: RefusedRoute[] = [];
  for (const [index, candidate] of routes.entries()) {
    const refuse = (reason: string): void => void refused.push({ index, ...label.safeParse(candidate).data, reason });
    const placed = place.safeParse(candidate);
    if (!placed.success) {
      refuse(firstReason(placed.error));
      continue;
    }
    const { host, path } = placed.data;
    const key = `${host} ${path}`;
    if (rules.has(key)) {
      refuse('an earlier rule has the same host and path');
      continue;
    }
    const whole = rest.safeParse(candidate);
    if (!whole.success) refuse(firstReason(whole.error));
    rules.set(key, { host, path, value: readTargets(whole.data?.targets ?? [], { guard, refuse }) });
  }
  return { rules: [...rules.values()], refused };
}

function readTargets(targets: readonly unknown[], { guard, refuse }: { guard: DialGuard; refuse: (reason: string) => void }): RouteTarget[] {
  return targets.flatMap((candidate) => {
    const parsed = routeTarget.safeParse(candidate);
    const reason = parsed.success ? guard(parsed.data.ip) : firstReason(parsed.error);
    if (reason !== undefined) refuse(reason);
    return parsed.success && reason === undefined ? [parsed.data] : [];
  });
}

function firstReason(error: z.ZodError): string {
  const [issue] = error.issues;
  const path = issue?.path.map(String).join('.') ?? '';
  return `${path === '' ? '' : `${path}: `}${issue?.message ?? 'invalid'}`;
}
