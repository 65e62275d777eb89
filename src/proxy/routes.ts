/** Turns snapshots into the live routing table and swaps it by one reference; a bad rule is refused alone. */
import { setImmediate } from 'node:timers/promises';
import { z } from 'zod';
import { ClawError } from '../errors.ts';
import { host as hostSchema, pathPrefix } from '../model/ingress.ts';
import { route, routeSnapshot, routeTarget } from '../model/route-snapshot.ts';
import type { DialGuard } from './dial-guard.ts';
import type { Backend, EndpointGroup, EndpointRegistry } from './endpoints.ts';
import { buildRoutingTable, type RoutingRule, type RoutingTable } from './routing-table.ts';

/** A rule, or a target of it, that is not used. */
interface RefusedRoute {
  /** Position of the rule in the snapshot. */
  readonly index: number;
  readonly host?: string | undefined;
  readonly path?: string | undefined;
  readonly ingress?: string | undefined;
  readonly reason: string;
}

export interface Applied {
  readonly version: number;
  readonly refused: readonly RefusedRoute[];
}

export interface LiveRoutes {
  /** Undefined until the first snapshot has come. */
  readonly version: () => number | undefined;
  readonly table: () => RoutingTable<EndpointGroup>;
  /** Resolves once the first snapshot is applied. */
  readonly arrived: () => Promise<void>;
  /**
   * Applies a snapshot; when it returns, requests are routed by it. Throws ClawError `INVALID_ARGUMENT` when it is no snapshot and
   * `CONFLICT` when a newer one has been applied.
   */
  readonly apply: (snapshot: unknown) => Promise<Applied>;
}

export function createLiveRoutes(endpoints: EndpointRegistry, guard: DialGuard): LiveRoutes {
  let version: number | undefined;
  let table = buildRoutingTable<EndpointGroup>([]);
  let before: Promise<unknown> = Promise.resolve();
  const first = Promise.withResolvers<void>();
  const applyNow = async (snapshot: unknown): Promise<Applied> => {
    const { version: offered, routes } = parseEnvelope(snapshot);
    if (version !== undefined && offered < version) {
      throw new ClawError('CONFLICT', `version ${offered} is older than the applied version ${version}`, { path: 'version' });
    }
    const { rules, refused } = await readRoutes(routes, guard);
    const live = rules.map(({ host, path, value }) => ({ host, path, value: endpoints.group(value) }));
    table = buildRoutingTable(live);
    version = offered;
    first.resolve();
    // Only now, when no new request can choose them, are the endpoints closed that nobody names any more.
    endpoints.retain(live.map((rule) => rule.value));
    return { version: offered, refused };
  };
  return {
    version: () => version,
    table: () => table,
    arrived: () => first.promise,
    apply: (snapshot) => {
      // One after the other, so that a slow old snapshot never overtakes a new one.
      const applied = before.then(() => applyNow(snapshot));
      before = applied.catch(() => undefined);
      return applied;
    },
  };
}

const envelope = routeSnapshot.extend({ routes: z.array(z.unknown()) });
/** A rule's own part: without it there is no place in the table that the rule could hold. */
const place = z.object({ host: hostSchema, path: pathPrefix });
const wellFormed = route.extend(place.shape);
const anyTargets = wellFormed.extend({ targets: z.array(z.unknown()) });
const label = z.object({ host: z.string().optional().catch(undefined), path: z.string().optional().catch(undefined), ingress: z.string().optional().catch(undefined) });

function parseEnvelope(snapshot: unknown): z.infer<typeof envelope> {
  const parsed = envelope.safeParse(snapshot);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new ClawError('INVALID_ARGUMENT', issue?.message ?? 'not a route snapshot', { path: issue?.path.map(String).join('.') ?? '' });
}

/** Rules read between two turns of the event loop: some 5 ms of work, so that requests go on while a large table is read. */
const RULES_PER_TURN = 500;

interface ReadRoutes {
  readonly rules: RoutingRule<Backend>[];
  readonly refused: RefusedRoute[];
}

/** Reads every rule and tells why some, or some of their targets, are refused. */
async function readRoutes(routes: readonly unknown[], guard: DialGuard): Promise<ReadRoutes> {
  const rules = new Map<string, RoutingRule<Backend>>();
  const refused: RefusedRoute[] = [];
  for (const [index, candidate] of routes.entries()) {
    if (index % RULES_PER_TURN === RULES_PER_TURN - 1) await setImmediate();
    const refuse = (reason: string): void => void refused.push({ index, ...label.safeParse(candidate).data, reason });
    const read = readRule(candidate, refuse);
    if (read === undefined) continue;
    const key = `${read.host} ${read.path}`;
    if (rules.has(key)) {
      refuse('an earlier rule has the same host and path');
      continue;
    }
    const targets = read.value.targets.filter((target) => {
      const reason = guard(target.ip);
      if (reason !== undefined) refuse(reason);
      return reason === undefined;
    });
    rules.set(key, { ...read, value: { ...read.value, targets } });
  }
  return { rules: [...rules.values()], refused };
}

/**
 * A rule with a valid host and path keeps its place even when all its targets are refused and then answers 503: were it dropped,
 * its requests would fall through to a shorter prefix and reach a service they were never meant for.
 */
function readRule(candidate: unknown, refuse: (reason: string) => void): RoutingRule<Backend> | undefined {
  const whole = wellFormed.safeParse(candidate);
  if (whole.success) return { host: whole.data.host, path: whole.data.path, value: { targets: whole.data.targets, refused: whole.data.refused } };
  const placed = place.safeParse(candidate);
  if (!placed.success) {
    refuse(firstReason(placed.error));
    return undefined;
  }
  const listed = anyTargets.safeParse(candidate);
  if (!listed.success) refuse(firstReason(listed.error));
  const targets = (listed.data?.targets ?? []).flatMap((target) => {
    const parsed = routeTarget.safeParse(target);
    if (!parsed.success) refuse(firstReason(parsed.error));
    return parsed.success ? [parsed.data] : [];
  });
  return { ...placed.data, value: { targets } };
}

function firstReason(error: z.ZodError): string {
  const [issue] = error.issues;
  const path = issue?.path.map(String).join('.') ?? '';
  return `${path === '' ? '' : `${path}: `}${issue?.message ?? 'invalid'}`;
}
