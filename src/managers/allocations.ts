/** Takes and releases addresses as part of a mutation: durable in the same transaction as the record that owns them. */
import { ClawError } from '../errors.ts';
import { allocate } from '../ipam/allocate.ts';
import { allocationKey, cursorKey, type AllocationRange } from '../ipam/keys.ts';
import { reservedIn, stats, type Pool, type PoolStats } from '../ipam/pool.ts';
import type { Cidr, Ipv4 } from '../model/address.ts';
import type { Change } from './records.ts';
import type { World } from './world.ts';

/** How long a released address rests before another owner gets it: connections to its old owner have ended by then. */
export const QUARANTINE_MS = 60_000;

/** The next free address of the range for `owner` (a record key), and the writes that take it. Throws RANGE_FULL. */
export function takeAddress(world: World, range: AllocationRange, owner: string): Change & { readonly ip: Ipv4 } {
  const result = allocate(poolOf(world, range));
  if (!result.ok) {
    throw new ClawError('RANGE_FULL', `no address is left in ${cidrOf(world, range)}: all ${world.allocations(range).taken.size} are taken`, {
      // Of the configuration, as with RANGE_OVERLAP: no argument is wrong.
      path: `ranges.${range.kind}`,
      hint: range.kind === 'clusterIp' ? 'Delete services that are no longer needed.' : 'Stop workloads that are no longer needed.',
    });
  }
  const { ip } = result;
  const key = allocationKey(range, ip);
  const rested = expired(world, range, ip);
  return {
    ip,
    compares: [key, ...rested].map((read) => ({ key: read, modRevision: world.modRevision(read) })),
    ops: [
      { type: 'put', key, value: { v: 1, owner } },
      { type: 'put', key: cursorKey(range), value: { v: 1, last: ip } },
      ...rested.map((old) => ({ type: 'delete' as const, key: old })),
    ],
  };
}

/** Gives the address back; it rests in quarantine from now on. */
export function releaseAddress(world: World, range: AllocationRange, ip: Ipv4): Change {
  const key = allocationKey(range, ip);
  return {
    compares: [{ key, modRevision: world.modRevision(key) }],
    ops: [{ type: 'put', key, value: { v: 1, releasedAt: world.now().toISOString() } }],
  };
}

export function poolStats(world: World, range: AllocationRange): PoolStats {
  return stats(poolOf(world, range));
}

function cidrOf(world: World, range: AllocationRange): Cidr {
  return range.kind === 'clusterIp' ? world.node.ranges.clusterIp : world.node.subnet;
}

function poolOf(world: World, range: AllocationRange): Pool {
  const addresses = cidrOf(world, range);
  return {
    range: addresses,
    reserved: reservedIn(addresses, range.kind),
    ...world.allocations(range),
    nowMs: world.now().getTime(),
    quarantineMs: QUARANTINE_MS,
  };
}

/** Keys of some quarantine records whose time is over: removed along the way, so that they do not pile up. */
function expired(world: World, range: AllocationRange, except: Ipv4): string[] {
  const before = world.now().getTime() - QUARANTINE_MS;
  return [...world.allocations(range).released]
    .filter(([ip, releasedAt]) => ip !== except && releasedAt <= before)
    .slice(0, 64)
    .map(([ip]) => allocationKey(range, ip));
}
