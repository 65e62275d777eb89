/** The allocators against a naive model: no duplicate, never reserved or outside, full only when full, round robin, quarantine, figures. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { allocate, type Allocation } from '../../src/ipam/allocate.ts';
import { reservedIn, stats, type Pool } from '../../src/ipam/pool.ts';
import { bounds, cidr, contains, fromNumber, ipv4, toNumber, type Cidr, type Ipv4 } from '../../src/model/address.ts';

const QUARANTINE_MS = 60_000;

describe('the first address and the order', () => {
  test('virtual IPs ascend from the first host address and wrap', () => {
    const pool = emptyPool('10.201.0.0/29', 'clusterIp');
    assert.deepEqual(drain(pool), ['10.201.0.1', '10.201.0.2', '10.201.0.3', '10.201.0.4', '10.201.0.5', '10.201.0.6']);
    assert.deepEqual(allocate(at(pool, { last: '10.201.0.6' })), { ok: true, ip: '10.201.0.1' });
    assert.deepEqual(allocate(at(pool, { last: '10.201.0.7' })), { ok: true, ip: '10.201.0.1' });
  });

  test('workload addresses begin behind the gateway', () => {
    assert.deepEqual(drain(emptyPool('10.200.7.0/29', 'workload')), ['10.200.7.2', '10.200.7.3', '10.200.7.4', '10.200.7.5', '10.200.7.6']);
  });

  test('a cursor outside the range, left by an older configuration, starts from the beginning', () => {
    assert.deepEqual(allocate(at(emptyPool('10.201.0.0/29', 'clusterIp'), { last: '10.9.9.9' })), { ok: true, ip: '10.201.0.1' });
  });

  test('the ends of the address space', () => {
    assert.deepEqual(drain(emptyPool('255.255.255.252/30', 'clusterIp')), ['255.255.255.253', '255.255.255.254']);
    assert.deepEqual(drain(emptyPool('0.0.0.0/30', 'clusterIp')), ['0.0.0.1', '0.0.0.2']);
  });

  test('ranges without network and broadcast address', () => {
    assert.deepEqual(drain(emptyPool('10.0.0.4/31', 'clusterIp')), ['10.0.0.4', '10.0.0.5']);
    assert.deepEqual(drain(emptyPool('10.0.0.4/32', 'clusterIp')), ['10.0.0.4']);
    assert.deepEqual(drain(emptyPool('10.0.0.4/31', 'workload')), []);
    assert.deepEqual(drain(emptyPool('10.0.0.4/32', 'workload')), []);
  });
});

describe('quarantine', () => {
  test('a released address is passed over until its time is over', () => {
    const pool = at(emptyPool('10.201.0.0/29', 'clusterIp'), { released: { '10.201.0.1': 1000 } });
    assert.deepEqual(allocate({ ...pool, nowMs: 1000 + QUARANTINE_MS - 1 }), { ok: true, ip: '10.201.0.2' });
    assert.deepEqual(allocate({ ...pool, nowMs: 1000 + QUARANTINE_MS }), { ok: true, ip: '10.201.0.1' });
  });

  test('with nothing else left, the one released longest ago is taken', () => {
    const released = { '10.201.0.1': 500, '10.201.0.2': 100, '10.201.0.3': 300 };
    const taken = ['10.201.0.4', '10.201.0.5', '10.201.0.6'];
    assert.deepEqual(allocate(at(emptyPool('10.201.0.0/29', 'clusterIp'), { released, taken, nowMs: 1000 })), { ok: true, ip: '10.201.0.2' });
  });

  test('a release in the future, after the clock was set back, is still a quarantine', () => {
    const pool = at(emptyPool('10.201.0.0/29', 'clusterIp'), { released: { '10.201.0.1': 9_000 }, nowMs: 1000 });
    assert.deepEqual(allocate(pool, ipv4.parse('10.201.0.1')), { ok: false, reason: 'quarantined', retryAfterMs: 68_000 });
  });
});

describe('a wish', () => {
  const pool = at(emptyPool('10.201.0.0/29', 'clusterIp'), { taken: ['10.201.0.2'], released: { '10.201.0.3': 1000 }, nowMs: 11_000 });
  const expected: readonly (readonly [string, Allocation])[] = [
    ['10.201.0.4', { ok: true, ip: ipv4.parse('10.201.0.4') }],
    ['10.201.0.8', { ok: false, reason: 'outside' }],
    ['10.200.255.255', { ok: false, reason: 'outside' }],
    ['10.201.0.0', { ok: false, reason: 'reserved' }],
    ['10.201.0.7', { ok: false, reason: 'reserved' }],
    ['10.201.0.2', { ok: false, reason: 'taken' }],
    ['10.201.0.3', { ok: false, reason: 'quarantined', retryAfterMs: 50_000 }],
  ];
  for (const [wish, answer] of expected) {
    test(`${wish}: ${answer.ok ? 'granted' : answer.reason}`, () => assert.deepEqual(allocate(pool, ipv4.parse(wish)), answer));
  }

  test('is granted again when the quarantine is over', () => {
    assert.deepEqual(allocate({ ...pool, nowMs: 1000 + QUARANTINE_MS }, ipv4.parse('10.201.0.3')), { ok: true, ip: '10.201.0.3' });
  });
});

describe('properties', () => {
  const range = fc
    .record({ prefix: fc.integer({ min: 22, max: 32 }), base: fc.nat({ max: 0xffffffff }) })
    .map(({ prefix, base }) => cidr.parse(`${fromNumber(Math.floor(base / 2 ** (32 - prefix)) * 2 ** (32 - prefix))}/${prefix}`));
  const kind = fc.constantFrom('clusterIp' as const, 'workload' as const);
  const state = fc.record({
    range,
    kind,
    /** What each address of the range is, by turns: taken, released at a time, or never used. */
    fill: fc.array(fc.oneof(fc.constant('taken' as const), fc.constant(undefined), fc.nat({ max: 2 * QUARANTINE_MS })), { minLength: 1, maxLength: 64 }),
    cursor: fc.option(fc.nat({ max: 1023 }), { nil: undefined }),
    nowMs: fc.integer({ min: 2 * QUARANTINE_MS, max: 4 * QUARANTINE_MS }),
  });
  const pools = state.map(({ fill, cursor, nowMs, ...of }): Pool => {
    const { first, last } = bounds(of.range);
    const reserved = reservedIn(of.range, of.kind);
    const taken = new Set<Ipv4>();
    const released = new Map<Ipv4, number>();
    for (let value = first; value <= last; value += 1) {
      const what = fill[(value - first) % fill.length];
      const ip = fromNumber(value);
      if (what === 'taken' && !reserved.has(ip)) taken.add(ip);
      else if (typeof what === 'number') released.set(ip, what);
    }
    const cursorIp = cursor === undefined ? undefined : fromNumber(first + (cursor % (last - first + 1)));
    return { range: of.range, reserved, taken, released, last: cursorIp, nowMs, quarantineMs: QUARANTINE_MS };
  });

  test('the choice is the naive model\'s', () => {
    fc.assert(fc.property(pools, (pool) => assert.deepEqual(allocate(pool), naive(pool))), { numRuns: 500 });
  });

  test('never outside, reserved or taken; full exactly when every address is', () => {
    fc.assert(
      fc.property(pools, (pool) => {
        const got = allocate(pool);
        const { free, quarantined } = stats(pool);
        assert.equal(got.ok, free + quarantined > 0);
        if (!got.ok) return;
        assert.ok(contains(pool.range, got.ip) && !pool.reserved.has(got.ip) && !pool.taken.has(got.ip));
        // Whoever asks for the chosen address by name gets it too, unless only quarantined ones were left.
        assert.equal(allocate(pool, got.ip).ok, free > 0);
      }),
      { numRuns: 500 },
    );
  });

  test('used, free, quarantined and reserved add up to the range', () => {
    fc.assert(
      fc.property(pools, (pool) => {
        const { first, last } = bounds(pool.range);
        const { used, free, quarantined } = stats(pool);
        const naiveFree = addresses(pool.range).filter((ip) => isUsable(pool, ip) && !isQuarantined(pool, ip)).length;
        assert.equal(free, naiveFree);
        assert.equal(used + free + quarantined + pool.reserved.size, last - first + 1);
      }),
    );
  });

  test('a life of allocations and releases: no duplicate, and no address comes back before its quarantine while others are free', () => {
    const steps = fc.array(fc.record({ release: fc.boolean(), pick: fc.nat(), waitMs: fc.nat({ max: QUARANTINE_MS / 4 }) }), { maxLength: 120 });
    fc.assert(
      fc.property(range, kind, steps, (ofRange, ofKind, life) => {
        const reserved = reservedIn(ofRange, ofKind);
        const taken = new Set<Ipv4>();
        const released = new Map<Ipv4, number>();
        let last: Ipv4 | undefined;
        let nowMs = 1_000_000;
        for (const { release, pick, waitMs } of life) {
          nowMs += waitMs;
          const victim = [...taken][pick % Math.max(1, taken.size)];
          if (release && victim !== undefined) {
            taken.delete(victim);
            released.set(victim, nowMs);
            continue;
          }
          const pool: Pool = { range: ofRange, reserved, taken, released, last, nowMs, quarantineMs: QUARANTINE_MS };
          const before = stats(pool);
          const got = allocate(pool);
          if (!got.ok) {
            assert.equal(before.used + reserved.size, addresses(ofRange).length);
            continue;
          }
          assert.ok(!taken.has(got.ip));
          if (before.free > 0) assert.ok(!isQuarantined(pool, got.ip));
          taken.add(got.ip);
          released.delete(got.ip);
          last = got.ip;
        }
      }),
    );
  });
});

describe('a /16', () => {
  test('hands out 65,534 different addresses in order and is then full', () => {
    const got = drain(emptyPool('10.201.0.0/16', 'clusterIp'));
    assert.equal(new Set(got).size, 65_534);
    assert.deepEqual([got[0], got[255], got.at(-1)], ['10.201.0.1', '10.201.1.0', '10.201.255.254']);
  });

  test('finds the one free address among 65,533 taken ones', () => {
    const taken = new Set(addresses(cidr.parse('10.201.0.0/16')).slice(1, -1));
    const free = ipv4.parse('10.201.77.7');
    taken.delete(free);
    const pool = { ...emptyPool('10.201.0.0/16', 'clusterIp'), taken, last: fromNumber(toNumber(free) + 1) };
    assert.deepEqual(allocate(pool), { ok: true, ip: free });
    assert.deepEqual(stats(pool), { used: 65_533, free: 1, quarantined: 0 });
  });
});

interface Figures {
  readonly last?: string;
  readonly taken?: readonly string[];
  readonly released?: Readonly<Record<string, number>>;
  readonly nowMs?: number;
}

function emptyPool(range: string, kind: 'clusterIp' | 'workload'): Pool {
  const parsed = cidr.parse(range);
  return { range: parsed, reserved: reservedIn(parsed, kind), taken: new Set(), released: new Map(), last: undefined, nowMs: 0, quarantineMs: QUARANTINE_MS };
}

function at(pool: Pool, { last, taken = [], released = {}, nowMs = 0 }: Figures): Pool {
  return {
    ...pool,
    nowMs,
    last: last === undefined ? undefined : ipv4.parse(last),
    taken: new Set(taken.map((ip) => ipv4.parse(ip))),
    released: new Map(Object.entries(released).map(([ip, atMs]) => [ipv4.parse(ip), atMs])),
  };
}

/** Allocates until the pool is full. */
function drain(pool: Pool): string[] {
  const taken = new Set<Ipv4>();
  let last: Ipv4 | undefined;
  for (;;) {
    const got = allocate({ ...pool, taken, last });
    if (!got.ok) return [...taken];
    assert.ok(!taken.has(got.ip), `${got.ip} was handed out twice`);
    taken.add(got.ip);
    last = got.ip;
  }
}

function addresses(range: Cidr): Ipv4[] {
  const { first, last } = bounds(range);
  return Array.from({ length: last - first + 1 }, (_, offset) => fromNumber(first + offset));
}

function isUsable(pool: Pool, ip: Ipv4): boolean {
  return !pool.reserved.has(ip) && !pool.taken.has(ip);
}

function isQuarantined(pool: Pool, ip: Ipv4): boolean {
  const releasedAtMs = pool.released.get(ip);
  return releasedAtMs !== undefined && pool.nowMs - releasedAtMs < pool.quarantineMs;
}

/** The rules, written down as slowly and plainly as they read. */
function naive(pool: Pool): Allocation {
  const all = addresses(pool.range);
  const start = pool.last === undefined ? 0 : all.indexOf(pool.last) + 1;
  const usable = [...all.slice(start), ...all.slice(0, start)].filter((ip) => isUsable(pool, ip));
  const free = usable.find((ip) => !isQuarantined(pool, ip));
  const oldest = usable.toSorted((a, b) => (pool.released.get(a) ?? 0) - (pool.released.get(b) ?? 0))[0];
  const ip = free ?? oldest;
  return ip === undefined ? { ok: false, reason: 'full' } : { ok: true, ip };
}
