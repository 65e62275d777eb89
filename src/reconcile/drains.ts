/** Lets TCP connections to endpoints that have left a service go on for a while, then has them reset; it programs no rule. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { EndpointsOf } from '../compile/endpoints.ts';
import type { ConntrackFlush } from '../compile/kernel-state.ts';
import { isLive, localEnd, tcpFlowKey, tcpFlows, type SocketEnd, type TcpConnection, type TcpFlow } from '../compile/tcp-flows.ts';
import type { DesiredView } from '../managers/desired-view.ts';
import { ipv4, type Ipv4 } from '../model/address.ts';
import type { Node } from '../model/node.ts';
import type { Endpoint } from '../model/observed.ts';
import type { Service } from '../model/service.ts';
import type { Workload } from '../model/workload.ts';

export interface DrainsOptions {
  readonly node: Node;
  readonly view: Pick<DesiredView, 'state'>;
  readonly endpointsOf: EndpointsOf;
  readonly readConnections: (signal: AbortSignal) => Promise<readonly TcpConnection[]>;
  readonly resetSockets: (ends: readonly SocketEnd[], signal: AbortSignal) => Promise<void>;
  readonly conntrack: { flush(entries: readonly ConntrackFlush[], signal: AbortSignal): Promise<unknown> };
  readonly logger: Logger;
}

export interface Drains {
  /**
   * The kernel holds the current state: what it no longer translates begins to drain, what it translates again does not end.
   * `changed` names the record keys of services that may differ since the last call, in themselves or their endpoints; undefined: any.
   */
  passed(changed: Iterable<string> | undefined): void;
  /** Resolves once nothing drains at the address any more: no connection is left, or the rest has been reset. */
  ended(ip: Ipv4, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** A service with `drainSeconds` as it was when it was last looked at. */
interface Known {
  readonly service: Service;
  readonly endpoints: readonly Endpoint[] | undefined;
  readonly flows: ReadonlyMap<string, TcpFlow>;
}

interface Draining {
  readonly flow: TcpFlow;
  readonly sinceMs: number;
  /** That of the service as it is now, or was when it was deleted. */
  seconds: number;
  resetting: boolean;
}

/** While somebody waits for connections to end, they are counted so often, or so much rarer as counting takes long. */
const COUNT_EVERY_MS = 250;
const COUNT_SHARE = 20;

/**
 * An agent that starts does not know what its predecessor let drain: connections that the kernel still translates for a service
 * which drains, to an endpoint that it has no longer, drain anew for the whole time.
 */
export async function openDrains(options: DrainsOptions, signal: AbortSignal): Promise<Drains> {
  const { view, endpointsOf, logger } = options;
  const known = await readInherited(options, signal);
  const draining = new Map<string, Draining>();
  const waiters = new Map<() => void, Ipv4>();
  const ended = new AbortController();
  const acts = new Set<Promise<void>>();
  let timer: NodeJS.Timeout | undefined;
  let counting = false;

  const tell = (): void => {
    for (const waiter of waiters.keys()) waiter();
  };

  const run = (what: string, act: () => Promise<void>): void => {
    const running = act()
      .catch((error: unknown) => {
        if (!ended.signal.aborted) logger.error({ err: error }, what);
      })
      .finally(() => acts.delete(running));
    acts.add(running);
  };

  const look = (key: string): void => {
    const service = view.state.services.get(key);
    const before = known.get(key);
    const endpoints = service?.drainSeconds === undefined ? undefined : endpointsOf(service);
    if (before?.service === service && before?.endpoints === endpoints) return;
    const flows = service === undefined || endpoints === undefined ? NONE : tcpFlows(service, endpoints);
    if (service?.drainSeconds === undefined) known.delete(key);
    else known.set(key, { service, endpoints, flows });
    if (before === undefined) return;
    // A service that no longer drains leaves its connections to themselves; one that is deleted drains as it would have.
    const seconds = service === undefined ? before.service.drainSeconds : service.drainSeconds;
    for (const [flowKey, flow] of before.flows) {
      if (flows.has(flowKey) || draining.has(flowKey) || seconds === undefined) continue;
      draining.set(flowKey, { flow, sinceMs: performance.now(), seconds, resetting: false });
    }
    for (const [flowKey, drain] of draining) {
      if (drain.flow.clusterIp !== before.service.clusterIp) continue;
      if (flows.has(flowKey) || seconds === undefined) draining.delete(flowKey);
      else drain.seconds = seconds;
    }
  };

  const schedule = (): void => {
    clearTimeout(timer);
    const waiting = [...draining.values()].filter(({ resetting }) => !resetting).map(({ sinceMs, seconds }) => sinceMs + seconds * 1000);
    if (waiting.length === 0 || ended.signal.aborted) return;
    timer = setTimeout(() => run('connections to endpoints that have left could not be reset', resetDue), Math.max(0, Math.min(...waiting) - performance.now()));
  };

  const resetDue = async (): Promise<void> => {
    const due = [...draining].filter(([, { resetting, sinceMs, seconds }]) => !resetting && sinceMs + seconds * 1000 <= performance.now() + 1);
    for (const [, drain] of due) drain.resetting = true;
    schedule();
    try {
      const ends = await openEnds(options, { flows: new Set(due.map(([key]) => key)), signal: ended.signal });
      await options.resetSockets(ends, ended.signal).catch((error: unknown) => {
        if (!ended.signal.aborted) logger.warn({ err: error }, 'sockets could not be destroyed; their connections are reset when they next send');
      });
      // What has no end on this node, and whatever was missed: without its entry a packet in mid-stream is answered with a reset.
      await options.conntrack.flush(due.map(([, { flow }]) => ({ type: 'tcp-endpoint', ...flow })), ended.signal);
    } finally {
      for (const [key, drain] of due) if (draining.get(key) === drain) draining.delete(key);
      tell();
    }
  };

  const isDraining = (ip: Ipv4): boolean => [...draining.values()].some(({ flow }) => flow.endpointIp === ip);

  /** While somebody waits: an endpoint to which no connection is open has drained. Those of the ingress, which dials it directly, count too. */
  const count = async (): Promise<void> => {
    counting = true;
    try {
      while (waiters.size > 0) {
        const startedAt = performance.now();
        const busy = new Set((await options.readConnections(ended.signal)).filter(isLive).map(({ endpoint }) => `${endpoint.ip}:${endpoint.port}`));
        const waited = new Set(waiters.values());
        for (const [key, { flow, resetting }] of draining) {
          if (!resetting && waited.has(flow.endpointIp) && !busy.has(`${flow.endpointIp}:${flow.endpointPort}`)) draining.delete(key);
        }
        schedule();
        tell();
        await sleep(Math.max(COUNT_EVERY_MS, (performance.now() - startedAt) * COUNT_SHARE), undefined, { signal: ended.signal });
      }
    } finally {
      counting = false;
    }
  };

  return {
    passed: (changed) => {
      const keys = changed ?? new Set([...view.state.services.keys(), ...known.keys()]);
      for (const key of keys) if (view.state.services.get(key)?.drainSeconds !== undefined || known.has(key)) look(key);
      schedule();
      tell();
    },
    ended: (ip, until) =>
      new Promise((resolve, reject) => {
        if (until.aborted) return reject(until.reason);
        if (!isDraining(ip)) return resolve();
        const stop = (): void => {
          waiters.delete(check);
          until.removeEventListener('abort', abort);
        };
        const abort = (): void => {
          stop();
          reject(until.reason);
        };
        const check = (): void => {
          if (isDraining(ip)) return;
          stop();
          resolve();
        };
        waiters.set(check, ip);
        until.addEventListener('abort', abort, { once: true });
        if (!counting) run('connections could not be counted; the drain lasts its whole time', count);
      }),
    close: async () => {
      ended.abort();
      clearTimeout(timer);
      await Promise.allSettled(acts);
    },
  };
}

const NONE: ReadonlyMap<string, TcpFlow> = new Map();

interface Due {
  /** Keys of flows. */
  readonly flows: ReadonlySet<string>;
  readonly signal: AbortSignal;
}

async function openEnds({ node, view, readConnections }: DrainsOptions, { flows, signal }: Due): Promise<SocketEnd[]> {
  const here = [...view.state.workloads.values()].filter((workload) => workload.node === node.id);
  const workloads = new Map(here.map((workload): [string, Workload] => [workload.ip, workload]));
  const connections = (await readConnections(signal)).filter((connection) => flows.has(tcpFlowKey(connection)));
  return connections.flatMap((connection) => localEnd(connection, { workloads, nodeIp: node.gateway }) ?? []);
}

/** What the kernel translates for services that drain, as if each had just had these endpoints. */
async function readInherited({ view, readConnections, logger }: DrainsOptions, signal: AbortSignal): Promise<Map<string, Known>> {
  const drained = [...view.state.services].filter(([, service]) => service.drainSeconds !== undefined);
  if (drained.length === 0) return new Map();
  try {
    const byVip = Map.groupBy((await readConnections(signal)).filter(isLive), ({ dialled }) => dialled.ip);
    return new Map(
      drained.map(([key, service]) => {
        const flows = (byVip.get(service.clusterIp) ?? []).map(({ dialled, endpoint }): TcpFlow => {
          return { clusterIp: service.clusterIp, servicePort: dialled.port, endpointIp: ipv4.parse(endpoint.ip), endpointPort: endpoint.port };
        });
        return [key, { service, endpoints: undefined, flows: new Map(flows.map((flow) => [tcpFlowKey(flow), flow])) }];
      }),
    );
  } catch (error) {
    signal.throwIfAborted();
    logger.error({ err: error }, 'TCP connections could not be read: those to endpoints that have left meanwhile are not reset');
    return new Map();
  }
}
