/**
 * The written order in which one state is applied, and why:
 * 1. addresses and routes of the node, or a VIP could not even be dialled;
 * 2. sets, because rules refer to them;
 * 3. rules: raw, then filter, then nat in one payload, so that nothing is translated before it is filtered;
 * 4. conntrack entries of vanished UDP endpoints, once no new ones can come into being.
 * Sets that no rule refers to any more go later (`stale-sets.ts`): the kernel lets go of them some time after the rules.
 */
import type { KernelState } from '../compile/kernel.ts';
import type { ConntrackFlush, IpsetState, IptablesState, NodeNetwork } from '../compile/kernel-state.ts';

export interface KernelDrivers {
  readonly nodeNetwork: { apply(network: NodeNetwork, signal?: AbortSignal): Promise<unknown> };
  readonly ipset: {
    apply(sets: readonly IpsetState[], signal?: AbortSignal): Promise<unknown>;
    resync(): void;
  };
  readonly iptables: { apply(state: IptablesState, signal?: AbortSignal): Promise<{ readonly written: number }>; resync(): void };
  readonly conntrack: { flush(entries: readonly ConntrackFlush[], signal?: AbortSignal): Promise<unknown> };
}

export interface Application {
  readonly kernel: KernelState;
  readonly stale: readonly ConntrackFlush[];
  /** Whether addresses and routes were seen in place and nothing has shaken that since: reading them costs two processes. */
  readonly networkKnown: boolean;
}

/** Resolves with the number of iptables lines that had to be written. Throws the first driver's error; what came before it stays applied. */
export async function applyInOrder(drivers: KernelDrivers, { kernel, stale, networkKnown }: Application, signal: AbortSignal): Promise<number> {
  if (!networkKnown) await drivers.nodeNetwork.apply(kernel.nodeNetwork, signal);
  await drivers.ipset.apply(kernel.ipsets, signal);
  const { written } = await drivers.iptables.apply(kernel.iptables, signal);
  if (stale.length > 0) await drivers.conntrack.flush(stale, signal);
  return written;
}
