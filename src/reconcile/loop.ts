/** Keeps kernel and proxy in line with the desired state: one pass at a time, as soon as something changed, again after a failure. */
import type { Logger } from 'pino';
import { compileKernel, type KernelState } from '../compile/kernel.ts';
import { staleUdpFlows, udpFlows, type UdpFlows } from '../compile/udp-flows.ts';
import type { EndpointsOf } from '../compile/endpoints.ts';
import type { Enforcement } from '../dispatch.ts';
import { toClawError } from '../errors.ts';
import type { DesiredView } from '../managers/desired-view.ts';
import type { Node } from '../model/node.ts';
import type { Route } from '../model/route-snapshot.ts';
import type { ObservedState } from '../observed/observed-state.ts';
import { applyInOrder, type KernelDrivers } from './order.ts';

export interface LoopOptions {
  readonly node: Node;
  readonly view: DesiredView;
  readonly observed: ObservedState;
  readonly endpointsOf: EndpointsOf;
  readonly drivers: KernelDrivers;
  /** Feeds the proxy; resolves once it serves these routes. */
  readonly feedRoutes: (routes: readonly Route[], signal: AbortSignal) => Promise<void>;
  /** UDP translations that the kernel still follows from before this agent started. */
  readonly inheritedUdpFlows: UdpFlows;
  readonly logger: Logger;
}

export interface LoopStatus {
  /** The store revision that the kernel holds. */
  readonly revision: number;
  /** Why the last pass failed. */
  readonly kernelFailure: string | undefined;
  readonly routesFailure: string | undefined;
}

export interface Loop {
  /** Waits for a pass that began after this call, if anything changed since the last one, and held the revision. */
  programmed(revision: number, signal: AbortSignal): Promise<Enforcement>;
  isProgrammed(revision: number): Enforcement;
  status(): LoopStatus;
  /** Takes nothing for granted any more: the next pass, which begins at once, reads the kernel first. */
  resync(): void;
  /** Another pass, because something outside the desired state changed (the proxy came back). */
  wake(): void;
  close(): Promise<void>;
}

const RETRY_MS = { first: 100, most: 5000 };

interface Waiter {
  readonly change: number;
  readonly revision: number;
  readonly resolve: (enforcement: Enforcement) => void;
}

export function startLoop(options: LoopOptions): Loop {
  const { node, view, observed, endpointsOf, drivers, logger } = options;
  const ended = new AbortController();
  const waiters = new Set<Waiter>();
  // Counts everything that asks for a pass; a pass covers what was counted when it began.
  let changes = 1;
  let covered = 0;
  let status: LoopStatus = { revision: 0, kernelFailure: 'the first pass has not ended yet', routesFailure: undefined };
  let networkKnown = false;
  let flows = options.inheritedUdpFlows;
  let retryMs = RETRY_MS.first;
  let retry: NodeJS.Timeout | undefined;
  let running: Promise<void> | undefined;

  const enforcement = (revision: number): Enforcement => {
    if (status.kernelFailure !== undefined) return { enforced: false, reason: status.kernelFailure };
    if (status.revision < revision) return { enforced: false, reason: `the kernel holds revision ${status.revision}, not yet ${revision}` };
    return { enforced: true };
  };

  const pass = async (): Promise<void> => {
    const began = changes;
    const { revision } = view.state;
    const kernel = compileKernel(node, view.state, endpointsOf);
    const after = udpFlows(view.state.services.values(), endpointsOf);
    const kernelFailure = await attempt('kernel', () => applyTwice(kernel, after));
    if (kernelFailure === undefined) flows = after;
    const routesFailure = await attempt('ingress proxy', () => options.feedRoutes(kernel.routes, ended.signal));
    covered = began;
    status = { revision: kernelFailure === undefined ? revision : status.revision, kernelFailure, routesFailure };
    scheduleRetry(kernelFailure !== undefined || routesFailure !== undefined);
    for (const waiter of waiters) {
      if (waiter.change > began || waiter.revision > revision) continue;
      waiters.delete(waiter);
      waiter.resolve(enforcement(waiter.revision));
    }
  };

  /** A write that failed may have met a kernel that others changed: read it and try once more before anybody is told. */
  const applyTwice = async (kernel: KernelState, after: UdpFlows): Promise<void> => {
    const stale = staleUdpFlows(flows, after);
    try {
      await applyInOrder(drivers, { kernel, stale, networkKnown }, ended.signal);
    } catch (error) {
      if (ended.signal.aborted) throw error;
      logger.warn({ err: error }, 'a pass failed; the kernel is read and the pass repeated');
      forgetKernel();
      await applyInOrder(drivers, { kernel, stale, networkKnown }, ended.signal);
    }
    networkKnown = true;
  };

  const forgetKernel = (): void => {
    drivers.iptables.resync();
    drivers.ipset.resync();
    networkKnown = false;
  };

  const attempt = async (what: string, act: () => Promise<void>): Promise<string | undefined> => {
    try {
      await act();
      return undefined;
    } catch (error) {
      if (!ended.signal.aborted) logger.error({ err: error }, `${what}: not in line`);
      return toClawError(error).message;
    }
  };

  const scheduleRetry = (failed: boolean): void => {
    clearTimeout(retry);
    if (!failed) retryMs = RETRY_MS.first;
    if (!failed || ended.signal.aborted) return;
    retry = setTimeout(wake, retryMs);
    retryMs = Math.min(retryMs * 2, RETRY_MS.most);
  };

  const run = async (): Promise<void> => {
    while (covered < changes && !ended.signal.aborted) await pass();
    running = undefined;
  };

  const wake = (): void => {
    changes += 1;
    if (!ended.signal.aborted) running ??= run();
  };

  const unsubscribe = [view.onChange(wake), observed.onChange(wake)];
  running = run();

  return {
    programmed: (revision, signal) =>
      new Promise((resolve, reject) => {
        if (covered >= changes && view.state.revision >= revision) return resolve(enforcement(revision));
        const abort = (): void => {
          waiters.delete(waiter);
          reject(signal.reason);
        };
        const waiter: Waiter = {
          change: changes,
          revision,
          resolve: (result) => {
            signal.removeEventListener('abort', abort);
            resolve(result);
          },
        };
        signal.addEventListener('abort', abort, { once: true });
        waiters.add(waiter);
      }),
    isProgrammed: enforcement,
    status: () => status,
    resync: () => {
      forgetKernel();
      wake();
    },
    wake,
    close: async () => {
      ended.abort();
      clearTimeout(retry);
      for (const stop of unsubscribe) stop();
      await running;
      for (const waiter of waiters) waiter.resolve({ enforced: false, reason: 'the agent is stopping' });
      waiters.clear();
    },
  };
}
