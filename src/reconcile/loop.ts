/**
 * Keeps kernel and proxy in line with the desired state. Each has passes of its own: a proxy that hangs or can not start
 * delays no service and no policy.
 */
import type { Logger } from 'pino';
import { kernelCompiler, type KernelState } from '../compile/kernel.ts';
import { compileRoutes } from '../compile/routes.ts';
import type { TableState } from '../compile/kernel-state.ts';
import { serviceIndex } from '../compile/service-index.ts';
import { staleUdpFlows, udpFlows, type UdpFlows } from '../compile/udp-flows.ts';
import type { DesiredView } from '../managers/desired-view.ts';
import type { Enforcement } from '../model/enforcement.ts';
import type { Node } from '../model/node.ts';
import type { Desired } from '../model/observed.ts';
import type { Route } from '../model/route-snapshot.ts';
import type { EndpointCache } from '../observed/endpoint-cache.ts';
import type { ObservedState } from '../observed/observed-state.ts';
import type { Drains } from './drains.ts';
import { applyInOrder, type KernelDrivers } from './order.ts';
import { openStaleSets, type StaleSetsOptions } from './stale-sets.ts';
import { startPasses, type PassesStatus, type PassResult } from './passes.ts';

export interface LoopOptions {
  readonly node: Node;
  readonly view: DesiredView;
  readonly observed: ObservedState;
  readonly endpoints: EndpointCache;
  readonly drivers: KernelDrivers & { readonly ipset: StaleSetsOptions['ipset'] };
  /** Feeds the proxy; resolves once it serves these routes. */
  readonly feedRoutes: (routes: readonly Route[], signal: AbortSignal) => Promise<void>;
  /** Told after each pass that succeeded. */
  readonly drains: Pick<Drains, 'passed'>;
  /** Cuts what the policies of a state forbid, once the kernel holds its rules. */
  readonly tighten: (desired: Desired, signal: AbortSignal) => Promise<void>;
  /** UDP translations that the kernel still follows from before this agent started. */
  readonly inheritedUdpFlows: UdpFlows;
  /** Told after each pass over the kernel or the proxy. */
  readonly onPass?: (pass: PassResult) => void;
  readonly logger: Logger;
}

export interface Loop {
  /** Waits until the kernel holds the revision, or is known not to. */
  programmed(revision: number, signal: AbortSignal): Promise<Enforcement>;
  isProgrammed(revision: number): Enforcement;
  /** The same for the proxy's routes, but not longer than `withinMs`: a hung proxy must not hold up who asks. */
  served(revision: number, signal: AbortSignal, withinMs?: number): Promise<Enforcement>;
  isServed(revision: number): Enforcement;
  kernelStatus(): PassesStatus;
  /** Takes nothing for granted any more: the next pass, which begins at once, reads the kernel first. */
  resync(): void;
  /** The proxy came or went: its routes are fed again. */
  feedAgain(): void;
  close(): Promise<void>;
}

/** What one pass brings into the kernel, and the UDP translations that are then wanted. */
interface Pass {
  readonly state: KernelState;
  readonly after: UdpFlows;
}

/** What a proxy that works takes at the very most. */
const SERVED_WITHIN_MS = 2500;

export function startLoop(options: LoopOptions): Loop {
  const { node, view, observed, endpoints, drivers, logger } = options;
  const { endpointsOf } = endpoints;
  const staleSets = openStaleSets({ ipset: drivers.ipset, logger });
  const compiler = kernelCompiler(node);
  // What the last compile took in: a service that differs since then changed in the store, or its endpoints did.
  let compiled: { readonly revision: number; readonly endpoints: string } | undefined;
  let networkKnown = false;
  // The filter rules under which no forbidden connection is left.
  let tightened: TableState | undefined;
  let flows = options.inheritedUdpFlows;

  /** A write that failed may have met a kernel that others changed: read it and try once more before anybody is told. */
  const applyTwice = async ({ state, after }: Pass, signal: AbortSignal): Promise<void> => {
    const stale = staleUdpFlows(flows, after);
    try {
      await applyInOrder(drivers, { kernel: state, stale, networkKnown }, signal);
    } catch (error) {
      if (signal.aborted) throw error;
      logger.warn({ err: error }, 'a pass failed; the kernel is read and the pass repeated');
      forgetKernel();
      await applyInOrder(drivers, { kernel: state, stale, networkKnown }, signal);
    }
    networkKnown = true;
    if (tightened === state.iptables.filter) return;
    await options.tighten(view.state, signal);
    tightened = state.iptables.filter;
  };

  const udpServices = serviceIndex(({ ports }) => ports.some(({ protocol }) => protocol === 'udp'));
  // The keys of services that changed since the last pass that succeeded; undefined: any may have.
  let unsettled: Set<string> | undefined;

  const compile = (): Pass => {
    const now = { revision: view.state.revision, endpoints: endpoints.generation() };
    const written = compiled?.endpoints === now.endpoints ? view.servicesChangedSince(compiled.revision) : undefined;
    const changedHealth = observed.takeHealthChanges();
    const changed = written === undefined ? undefined : new Set([...written, ...changedHealth]);
    const state = compiler.compile(view.state, endpointsOf, changed);
    const after = udpFlows(udpServices({ services: view.state.services, changed }).values(), endpointsOf);
    unsettled = unsettled === undefined || changed === undefined ? undefined : new Set([...unsettled, ...changed]);
    compiled = now;
    return { state, after };
  };

  const forgetKernel = (): void => {
    drivers.iptables.resync();
    drivers.ipset.resync();
    networkKnown = false;
    tightened = undefined;
  };

  const kernel = startPasses({
    name: 'kernel',
    revision: () => view.state.revision,
    onPass: options.onPass,
    logger,
    pass: async (signal) => {
      const pass = compile();
      staleSets.hold();
      await applyTwice(pass, signal);
      staleSets.applied(pass.state.ipsets);
      flows = pass.after;
      options.drains.passed(unsettled);
      unsettled = new Set();
    },
  });
  const routes = startPasses({
    name: 'ingress proxy',
    revision: () => view.state.revision,
    onPass: options.onPass,
    logger,
    pass: (signal) => options.feedRoutes(compileRoutes(view.state, endpointsOf), signal),
  });

  const wakeBoth = (): void => {
    kernel.wake();
    routes.wake();
  };
  const unsubscribe = [view.onChange(wakeBoth), observed.onChange(wakeBoth)];

  return {
    programmed: (revision, signal) => kernel.reached(revision, signal),
    isProgrammed: (revision) => kernel.isReached(revision),
    served: async (revision, signal, withinMs = SERVED_WITHIN_MS) => {
      try {
        return await routes.reached(revision, AbortSignal.any([signal, AbortSignal.timeout(withinMs)]));
      } catch (error) {
        if (signal.aborted) throw error;
        return { enforced: false, reason: routes.status().failure ?? 'the ingress proxy has not taken it yet' };
      }
    },
    isServed: (revision) => routes.isReached(revision),
    kernelStatus: () => kernel.status(),
    resync: () => {
      forgetKernel();
      kernel.wake();
    },
    feedAgain: () => routes.wake(),
    close: async () => {
      for (const stop of unsubscribe) stop();
      await Promise.all([kernel.close(), routes.close()]);
      await staleSets.close();
    },
  };
}
