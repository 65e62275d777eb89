/** What a starting agent does before its first pass: takes over what lives, and removes what no record knows any more. */
import type { Logger } from 'pino';
import type { UdpFlows } from '../compile/udp-flows.ts';
import type { LinkDriver } from '../drivers/link.ts';
import type { Cidr } from '../model/address.ts';
import type { Desired } from '../model/observed.ts';
import type { Node } from '../model/node.ts';
import type { ObservedState } from '../observed/observed-state.ts';
import type { ProcessRuntime } from '../runtime/process.ts';
import type { DockerRuntime } from '../runtime/docker.ts';
import type { Joined } from './joined.ts';
import { observedOf, processSpec } from './workloads.ts';

export interface TakeOverOptions {
  readonly node: Node;
  readonly desired: Desired;
  readonly links: Pick<LinkDriver, 'list' | 'remove'>;
  readonly runtime: Pick<ProcessRuntime, 'adopt' | 'observe'>;
  readonly joined: Pick<Joined, 'findLinked'>;
  readonly docker: Pick<DockerRuntime, 'removeOthers'> | undefined;
  readonly readTranslatedUdp: (range: Cidr, signal?: AbortSignal) => Promise<UdpFlows>;
  readonly observed: ObservedState;
  readonly logger: Logger;
}

/**
 * Only looks and removes: nothing is linked or started here, because after a boot no rule of ours is in force yet. One
 * thing that fails is logged and keeps no other from being taken over. Resolves with the UDP translations that the kernel
 * still follows, so that the first pass can end those whose endpoint has gone in the meantime.
 */
export async function takeOver(options: TakeOverOptions, signal: AbortSignal): Promise<UdpFlows> {
  const { node, desired, runtime, observed, logger } = options;
  const attempt = async <Result>(what: string, act: () => Promise<Result>): Promise<Result | undefined> => {
    try {
      return await act();
    } catch (error) {
      signal.throwIfAborted();
      logger.error({ err: error }, what);
      return undefined;
    }
  };
  await attempt('what no workload owns could not be removed', () => removeOrphans(options, signal));
  // Workloads of other nodes too: their processes are none of ours to end.
  const specs = [...desired.workloads.values()].filter((workload) => workload.runtime === 'process').map((workload) => processSpec(workload));
  await attempt('running workloads could not be taken over', () => runtime.adopt(specs, signal));
  for (const [id, process] of runtime.observe()) observed.set(id, observedOf(process));
  const known = new Set([...desired.workloads.values()].map(({ id }) => id));
  await attempt('containers that no workload owns could not be removed', async () => options.docker?.removeOthers(known, signal));
  const here = [...desired.workloads.values()].filter((workload) => workload.node === node.id);
  const linked = await attempt('attached containers and networks could not be looked at', () => options.joined.findLinked(here, signal));
  for (const [id, state] of linked ?? []) observed.set(id, state);
  const flows = await attempt('UDP connections could not be read', () => options.readTranslatedUdp(node.ranges.clusterIp, signal));
  return flows ?? new Map();
}

/** A record comes first and goes last, so a link without one is left over from a store that is no longer used. */
async function removeOrphans({ desired, links }: TakeOverOptions, signal: AbortSignal): Promise<void> {
  const known = new Set([...desired.workloads.values()].map((workload) => workload.id));
  const { interfaces, netns } = await links.list();
  const ids = new Set([...interfaces.map((name) => name.replace(/^clawv/, '')), ...netns.map((name) => name.replace(/^claw-/, ''))]);
  for (const id of ids) {
    if (!known.has(id)) await links.remove({ hostInterface: `clawv${id}`, netns: `claw-${id}` }, signal);
  }
}
