/** Where allocations lie in the store and what they look like there; pure: it reads and writes no store. */
import { z } from 'zod';
import { ipv4, type Ipv4 } from '../model/address.ts';

const version = z.literal(1);

/** One address: in use by the record with the key `owner`, or released and kept for its quarantine. */
export const allocationRecord = z.union([
  z.strictObject({ v: version, owner: z.string().min(1) }),
  z.strictObject({ v: version, releasedAt: z.iso.datetime() }),
]);

/** The address handed out last: the next one is looked for behind it, also after a restart. */
export const cursorRecord = z.strictObject({ v: version, last: ipv4 });

/** A range that addresses are allocated from: the virtual IPs of all services, or the workload subnet of one node. */
export type AllocationRange = { readonly kind: 'clusterIp' } | { readonly kind: 'workload'; readonly node: string };

/** Every allocation of the range lies under this prefix, and nothing else: `ipam/clusterip/`, `ipam/workload/<node>/`. */
export function allocationPrefix(range: AllocationRange): string {
  return `ipam/${place(range)}/`;
}

/** `ipam/clusterip/<ip>`, `ipam/workload/<node>/<ip>`. */
export function allocationKey(range: AllocationRange, ip: Ipv4): string {
  return `${allocationPrefix(range)}${ip}`;
}

/** `ipam/cursor/clusterip`, `ipam/cursor/workload/<node>`. */
export function cursorKey(range: AllocationRange): string {
  return `ipam/cursor/${place(range)}`;
}

function place(range: AllocationRange): string {
  // A node's id is escaped, so that no id can reach into the keys of another one.
  return range.kind === 'clusterIp' ? 'clusterip' : `workload/${encodeURIComponent(range.node)}`;
}
