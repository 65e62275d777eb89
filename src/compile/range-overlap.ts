/** Whether our ranges collide with what the machine already uses. Pure. */
import { overlaps, type Cidr } from '../model/address.ts';
import type { Ranges } from '../model/node.ts';

/** A foreign address or route of the machine, e.g. `10.0.0.0/8 dev tun0`. */
export interface ForeignRange {
  readonly range: Cidr;
  readonly device: string | undefined;
  readonly kind: 'address' | 'route';
}

export interface Overlap {
  /** Which of our ranges: `clusterIp`, `workload`, `mesh`. */
  readonly name: string;
  readonly range: Cidr;
  /** What it collides with, in words. */
  readonly culprit: string;
}

/** The first collision, among ourselves or with the machine. A default route covers everything and collides with nothing. */
export function findOverlap(ranges: Ranges, foreign: readonly ForeignRange[]): Overlap | undefined {
  const ours = Object.entries(ranges);
  for (const [name, range] of ours) {
    const twin = ours.find(([other, candidate]) => other !== name && overlaps(range, candidate));
    if (twin !== undefined) return { name, range, culprit: `our own range ${twin[0]}, ${twin[1]}` };
    const culprit = foreign.find((candidate) => !candidate.range.endsWith('/0') && overlaps(range, candidate.range));
    if (culprit !== undefined) return { name, range, culprit: `${culprit.kind} ${culprit.range} of ${culprit.device ?? 'no device'}` };
  }
  return undefined;
}
