/** What a node is by its configuration alone: its name, its subnet, and ranges that collide with nothing. It asks no kernel and keeps nothing. */
import { hostname } from 'node:os';
import { findOverlap, type ForeignRange } from './compile/range-overlap.ts';
import { ClawError } from './errors.ts';
import type { Cidr, Ipv4 } from './model/address.ts';
import { name } from './model/name.ts';
import { nodeSubnet, type Ranges } from './model/node.ts';

/** The first name that is given, checked, else the host's as a label. Throws CONFIG_INVALID for one that no node can have. */
export function nodeName(...wished: readonly (string | undefined)[]): string {
  const id = wished.find((candidate) => candidate !== undefined) ?? fromHostName(hostname());
  const parsed = name.safeParse(id);
  if (parsed.success) return parsed.data;
  throw new ClawError('CONFIG_INVALID', `${JSON.stringify(id)} can be no node's name: ${parsed.error.issues[0]?.message ?? ''}`, {
    path: 'nodeId',
    hint: 'Give another one with --node or nodeId.',
  });
}

/** The node's own /24 and its gateway. Throws CONFIG_INVALID where the range holds none of this number. */
export function nodePlace(ranges: Ranges, number: number): { subnet: Cidr; gateway: Ipv4 } {
  const place = nodeSubnet(ranges.workload, number);
  if (place !== undefined) return place;
  throw new ClawError('CONFIG_INVALID', `the workload range ${ranges.workload} holds no /24 for node number ${number}`, {
    path: 'ranges.workload',
    hint: 'Give a range of at least a /24, or a smaller nodeNumber.',
  });
}

/** Throws RANGE_OVERLAP when our ranges collide among themselves or with what the machine uses. */
export function refuseOverlap(ranges: Ranges, foreign: readonly ForeignRange[]): void {
  const overlap = findOverlap(ranges, foreign);
  if (overlap === undefined) return;
  throw new ClawError('RANGE_OVERLAP', `our range ${overlap.name} ${overlap.range} overlaps ${overlap.culprit}`, {
    path: `ranges.${overlap.name}`,
    hint: 'Choose another range in the configuration (clawnode up --config FILE).',
  });
}

/** A host may be called `Build_01.example.com`; a node is called by an RFC 1123 label. */
function fromHostName(host: string): string {
  const [first = ''] = host.toLowerCase().split('.', 1);
  const label = first.replaceAll(/[^a-z0-9-]/g, '-').replaceAll(/^-+|-+$/g, '');
  return label === '' ? 'node' : label.slice(0, 63);
}
