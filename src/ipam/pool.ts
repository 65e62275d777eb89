/** What an allocator knows of one range, its reserved addresses and its figures; pure, and it never hands an address out. */
import { bounds, contains, fromNumber, type Cidr, type Ipv4 } from '../model/address.ts';

export interface Pool {
  readonly range: Cidr;
  /** Addresses of the range that are never handed out, as `reservedIn` names them. */
  readonly reserved: ReadonlySet<Ipv4>;
  /** Addresses in use: all inside the range, none of them reserved. */
  readonly taken: { has(ip: Ipv4): boolean; readonly size: number };
  /** When each released address was given back, in epoch milliseconds. */
  readonly released: ReadonlyMap<Ipv4, number>;
  /** The address handed out last: the search goes on behind it. */
  readonly last: Ipv4 | undefined;
  readonly nowMs: number;
  /** For this long a released address is passed over while any other is free. */
  readonly quarantineMs: number;
}

export type RangeKind = 'clusterIp' | 'workload';

/**
 * What a range never hands out: its network and broadcast address, and of a workload subnet also the gateway, its first
 * host address. A /31 or /32 has no network and broadcast address (RFC 3021), so virtual IPs use all of it.
 */
export function reservedIn(range: Cidr, kind: RangeKind): ReadonlySet<Ipv4> {
  const { first, last, prefix } = bounds(range);
  if (kind === 'clusterIp') return prefix >= 31 ? new Set() : new Set([fromNumber(first), fromNumber(last)]);
  return new Set([fromNumber(first), fromNumber(Math.min(first + 1, last)), fromNumber(last)]);
}

export interface PoolStats {
  readonly used: number;
  /** Could be handed out at once. */
  readonly free: number;
  /** Not used and released less than `quarantineMs` ago. */
  readonly quarantined: number;
}

/** How a pool is used. The three figures and the reserved addresses add up to the size of the range. */
export function stats(pool: Pool): PoolStats {
  const { range, reserved, taken, released } = pool;
  const { first, last } = bounds(range);
  let quarantined = 0;
  for (const ip of released.keys()) {
    if (remainingQuarantineMs(pool, ip) > 0 && !taken.has(ip) && !reserved.has(ip) && contains(range, ip)) quarantined += 1;
  }
  return { used: taken.size, free: last - first + 1 - reserved.size - taken.size - quarantined, quarantined };
}

/** How long the address is still passed over, in milliseconds; 0 when it is not. */
export function remainingQuarantineMs({ released, nowMs, quarantineMs }: Pool, ip: Ipv4): number {
  const releasedAtMs = released.get(ip);
  return releasedAtMs === undefined ? 0 : Math.max(0, releasedAtMs + quarantineMs - nowMs);
}
