/** Chooses the next address of a pool, or judges the one that is wished for; pure: the caller stores the choice. */
import { bounds, contains, fromNumber, toNumber, type Ipv4 } from '../model/address.ts';
import { remainingQuarantineMs, type Pool } from './pool.ts';

export type Allocation =
  | { readonly ok: true; readonly ip: Ipv4 }
  /** `full`: no address is left. The others judge a wish. */
  | { readonly ok: false; readonly reason: 'full' | 'outside' | 'reserved' | 'taken' }
  | { readonly ok: false; readonly reason: 'quarantined'; readonly retryAfterMs: number };

/**
 * The wished address, or the next free one: addresses ascend behind the one handed out last and wrap at the end of the
 * range. A quarantined address is passed over; when no other is left, the one released longest ago is taken.
 */
export function allocate(pool: Pool, wish?: Ipv4): Allocation {
  return wish === undefined ? nextFree(pool) : judge(pool, wish);
}

function judge(pool: Pool, wish: Ipv4): Allocation {
  if (!contains(pool.range, wish)) return { ok: false, reason: 'outside' };
  if (pool.reserved.has(wish)) return { ok: false, reason: 'reserved' };
  if (pool.taken.has(wish)) return { ok: false, reason: 'taken' };
  const retryAfterMs = remainingQuarantineMs(pool, wish);
  return retryAfterMs > 0 ? { ok: false, reason: 'quarantined', retryAfterMs } : { ok: true, ip: wish };
}

function nextFree(pool: Pool): Allocation {
  const { first, last } = bounds(pool.range);
  const size = last - first + 1;
  const start = pool.last !== undefined && contains(pool.range, pool.last) ? toNumber(pool.last) + 1 - first : 0;
  let oldest: { ip: Ipv4; remainingMs: number } | undefined;
  for (let step = 0; step < size; step += 1) {
    const ip = fromNumber(first + ((start + step) % size));
    if (pool.taken.has(ip) || pool.reserved.has(ip)) continue;
    const remainingMs = remainingQuarantineMs(pool, ip);
    if (remainingMs === 0) return { ok: true, ip };
    if (oldest === undefined || remainingMs < oldest.remainingMs) oldest = { ip, remainingMs };
  }
  return oldest === undefined ? { ok: false, reason: 'full' } : { ok: true, ip: oldest.ip };
}
