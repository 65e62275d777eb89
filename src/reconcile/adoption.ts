/** What a starting agent does before its first pass: takes over what lives, and removes what no record knows any more. */
import type { WorkloadLink } from '../compile/kernel-state.ts';
import type { UdpFlows } from '../compile/udp-flows.ts';
import type { LinkDriver } from '../drivers/link.ts';
import type { Cidr } from '../model/address.ts';
import type { Desired } from '../model/observed.ts';
import type { Node } from '../model/node.ts';
import type { ObservedState } from '../observed/observed-state.ts';
import type { ProcessRuntime } from '../runtime/process.ts';
import { observedOf, processSpec } from './workloads.ts';

export interface TakeOverOptions {
  readonly node: Node;
  readonly desired: Desired;
  /** The links of this node's workloads. */
  readonly ours: readonly WorkloadLink[];
  readonly links: Pick<LinkDriver, 'ensure' | 'list' | 'remove'>;
  readonly runtime: Pick<ProcessRuntime, 'adopt' | 'observe'>;
  readonly readTranslatedUdp: (range: Cidr, signal?: AbortSignal) => Promise<UdpFlows>;
  readonly observed: ObservedState;
}

/**
 * Resolves with the UDP translations that the kernel still follows, so that the first pass can end those whose endpoint
 * has gone in the meantime. Links come before processes: a workload that is started again needs its network.
 */
export async function takeOver(options: TakeOverOptions, signal: AbortSignal): Promise<UdpFlows> {
  const { node, desired, ours, links, runtime, observed } = options;
  await removeOrphans(options, signal);
  const held = await links.list();
  const missing = ours.filter((link) => !held.interfaces.includes(link.hostInterface) || !held.netns.includes(link.netns));
  // Those that exist are looked at closely later, by the workload controller: this keeps the start short.
  for (const link of missing.filter(({ id }) => !isStopping(desired, id))) await links.ensure(link, signal);
  const byId = new Map(ours.map((link) => [link.id, link]));
  const specs = [...desired.workloads.values()].flatMap((workload) => {
    const link = byId.get(workload.id);
    return link === undefined ? [] : [processSpec(workload, link)];
  });
  await runtime.adopt(specs, signal);
  for (const [id, process] of runtime.observe()) observed.set(id, observedOf(process));
  return options.readTranslatedUdp(node.ranges.clusterIp, signal);
}

function isStopping(desired: Desired, id: string): boolean {
  return [...desired.workloads.values()].some((workload) => workload.id === id && workload.stopping);
}

/** A record goes last and comes first, so a link without one is left over from a store that is no longer used. */
async function removeOrphans({ desired, links }: TakeOverOptions, signal: AbortSignal): Promise<void> {
  const known = new Set([...desired.workloads.values()].map((workload) => workload.id));
  const { interfaces, netns } = await links.list();
  const ids = new Set([...interfaces.map((name) => name.replace(/^clawv/, '')), ...netns.map((name) => name.replace(/^claw-/, ''))]);
  for (const id of ids) {
    if (!known.has(id)) await links.remove({ hostInterface: `clawv${id}`, netns: `claw-${id}` }, signal);
  }
}
