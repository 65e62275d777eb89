/** Takes and releases addresses as part of a mutation: durable in the same transaction as the record that owns them. */
import { ClawError } from '../errors.ts';
import { allocate, reservedIn, stats, type PoolStats } from '../ipam/allocate.ts';
import { allocationKey, cursorKey, type PoolName } from '../ipam/keys.ts';
import type { Cidr, Ipv4 } from '../model/address.ts';
import type { Change } from './records.ts';
import type { World } from './world.ts';

/** How long a released address rests before another owner gets it: connections to its old owner have ended by then. */
export const QUARANTINE_MS = 60_000;

/** The next free address of the pool for `owner` (a record key), and the writes that take it. Throws RANGE_FULL. */
export function takeAddress(world: World, pool: PoolName, owner: string): Change & { readonly ip: Ipv4 } {
  const result = allocate(poolOf(world, pool));
  if (!result.ok) {
    const range = rangeOf(world, pool);
    throw new ClawError('RANGE_FULL', `no address is left in ${range}: all ${world.allocations(pool).taken.size} are taken`, {
      hint: pool === 'clusterip' ? 'Delete services that are no longer needed.' : 'Stop workloads that are no longer needed.',
    });
  }
  const { ip } = result;
  const key = allocationKey(pool, ip);
  const rested = expired(world, pool, ip);
  return {
    ip,
    compares: [key, ...rested].map((read) => ({ key: read, modRevision: world.modRevision(read) })),
    ops: [
      { type: 'put', key, value: { v: 1, owner } },
      { type: 'put', key: cursorKey(pool), value: { v: 1, last: ip } },
      ...rested.map((old) => ({ type: 'delete' as const, key: old })),
    ],
  };
}

/** Gives the address back; it rests in quarantine from now on. */
export function releaseAddress(world: World, pool: PoolName, ip: Ipv4): Change {
  const key = allocationKey(pool, ip);
  return {
    compares: [{ key, modRevision: world.modRevision(key) }],
    ops: [{ type: 'put', key, value: { v: 1, releasedAt: world.now().toISOString() } }],
  };
}

export function poolStats(world: World, pool: PoolName): PoolStats {
  return stats(poolOf(world, pool));
}

function rangeOf(world: World, pool: PoolName): Cidr {
  return pool === 'clusterip' ? world.node.ranges.clusterIp : world.node.subnet;
}

function poolOf(world: World, pool: PoolName) {
  const range = rangeOf(world, pool);
  const { taken, released, last } = world.allocations(pool);
  return {
    range,
    reserved: reservedIn(range, pool === 'clusterip' ? 'clusterip' : 'workload'),
    taken,
    released,
    last,
    nowMs: world.now().getTime(),
    quarantineMs: QUARANTINE_MS,
  };
}

/** Keys of some quarantine records whose time is over: removed along the way, so that they do not pile up. */
function expired(world: World, pool: PoolName, except: Ipv4): string[] {
  const before = world.now().getTime() - QUARANTINE_MS;
  return [...world.allocations(pool).released]
    .filter(([ip, releasedAt]) => ip !== except && releasedAt <= before)
    .slice(0, 64)
    .map(([ip]) => allocationKey(pool, ip));
}
