/** Who this node is: its name, number and ranges, checked against what the machine already uses. Decides nothing later. */
import { hostname } from 'node:os';
import { findOverlap } from './compile/range-overlap.ts';
import type { Config } from './config.ts';
import { systemAddressesAndRoutes, underlayMtu } from './drivers/system-network.ts';
import { ClawError } from './errors.ts';
import { name } from './model/name.ts';
import { nodeSubnet, type Node } from './model/node.ts';

/** What WireGuard adds to a packet: 20 or 40 bytes of IP, 8 of UDP, 32 of its own. */
const WIREGUARD_OVERHEAD = 80;

export interface Identity {
  readonly config: Config;
  readonly nodeId: string | undefined;
}

/** Throws RANGE_OVERLAP when one of our ranges is in use already, and CONFIG_INVALID for an impossible name. */
export async function openNode({ config, nodeId }: Identity, signal: AbortSignal): Promise<Node> {
  const { ranges, nodeNumber, exposeTo } = config;
  const overlap = findOverlap(ranges, await systemAddressesAndRoutes(signal));
  if (overlap !== undefined) {
    throw new ClawError('RANGE_OVERLAP', `our range ${overlap.name} ${overlap.range} overlaps ${overlap.culprit}`, {
      path: `ranges.${overlap.name}`,
      hint: 'Choose another range in the configuration (clawnode up --config FILE).',
    });
  }
  return {
    id: checkedName(nodeId ?? config.nodeId ?? fromHostName(hostname())),
    number: nodeNumber,
    ranges,
    ...nodeSubnet(ranges.workload, nodeNumber),
    mtu: (await underlayMtu(signal)) - WIREGUARD_OVERHEAD,
    exposeTo,
  };
}

/** A host may be called `Build_01.example.com`; a node is called by an RFC 1123 label. */
function fromHostName(host: string): string {
  const [first = ''] = host.toLowerCase().split('.', 1);
  const label = first.replaceAll(/[^a-z0-9-]/g, '-').replaceAll(/^-+|-+$/g, '');
  return label === '' ? 'node' : label.slice(0, 63);
}

function checkedName(id: string): string {
  const parsed = name.safeParse(id);
  if (parsed.success) return parsed.data;
  throw new ClawError('CONFIG_INVALID', `${JSON.stringify(id)} can be no node's name: ${parsed.error.issues[0]?.message ?? ''}`, {
    path: 'nodeId',
    hint: 'Give another one with --node or nodeId.',
  });
}
