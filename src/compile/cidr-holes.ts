/** A range without its holes, as ranges. Pure. */
import { bounds, cidr, fromNumber, type Cidr } from '../model/address.ts';
import type { CidrPeer } from '../model/policy.ts';

/** What is left, in order; none overlap. The kernel's own exceptions in a set can not carve out a set's whole member. */
export function withoutHoles({ cidr: block, except = [] }: CidrPeer): Cidr[] {
  let left: Cidr[] = [block];
  for (const hole of except) left = left.flatMap((range) => subtract(range, hole));
  return left;
}

function subtract(range: Cidr, hole: Cidr): Cidr[] {
  const outer = bounds(range);
  const inner = bounds(hole);
  if (inner.first > outer.last || inner.last < outer.first) return [range];
  if (inner.first <= outer.first && inner.last >= outer.last) return [];
  return halves(range).flatMap((half) => subtract(half, hole));
}

/** `hash:net` takes no /0, which is two halves. */
export function halves(range: Cidr): Cidr[] {
  const { first, prefix } = bounds(range);
  return [first, first + 2 ** (31 - prefix)].map((base) => cidr.parse(`${fromNumber(base)}/${prefix + 1}`));
}
