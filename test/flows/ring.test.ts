/** What is kept of flows, what is merged, and what is found again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createFlowRing, type NewFlow } from '../../src/flows/ring.ts';
import { ipv4 } from '../../src/model/address.ts';

const START = Date.parse('2026-01-31T12:00:00Z');

function flow(fields: Partial<NewFlow> = {}): NewFlow {
  return {
    timeMs: START,
    from: 'shop/web',
    fromIp: ipv4.parse('10.200.1.2'),
    to: 'shop/db',
    toIp: ipv4.parse('10.200.1.3'),
    port: 5432,
    protocol: 'tcp',
    verdict: 'deny',
    direction: 'ingress',
    policy: 'shop/db',
    mode: 'enforce',
    ...fields,
  };
}

test('the newest come first, up to the limit, and the count is of all that match', () => {
  const ring = createFlowRing();
  for (const port of [1, 2, 3]) ring.add(flow({ port, timeMs: START + port }));
  const { flows, count } = ring.query({ limit: 2 });
  assert.equal(count, 3);
  assert.deepEqual(flows.map(({ port }) => port), [3, 2]);
  const { timeMs, ...rest } = flow({ port: 3, timeMs: START + 3 });
  assert.deepEqual(flows[0], { time: new Date(timeMs).toISOString(), ...rest, count: 1 });
});

test('only the last ones are kept, and the totals know of all', () => {
  const ring = createFlowRing({ capacity: 100 });
  for (let port = 1; port <= 250; port += 1) ring.add(flow({ port, verdict: port % 5 === 0 ? 'audit' : 'deny' }));
  const { flows, count } = ring.query({ limit: 500 });
  assert.equal(count, 100);
  assert.deepEqual([flows[0]?.port, flows.at(-1)?.port], [250, 151]);
  assert.deepEqual(ring.totals(), { denied: 200, audited: 50 });
});

test('what differs in its source port only is one flow for a second, and another one after it', () => {
  const ring = createFlowRing();
  for (const timeMs of [0, 300, 999, 1000, 1500]) ring.add(flow({ timeMs: START + timeMs }));
  assert.deepEqual(ring.query({ limit: 10 }).flows.map(({ time, count }) => [time, count]), [
    ['2026-01-31T12:00:01.000Z', 2],
    ['2026-01-31T12:00:00.000Z', 3],
  ]);
  assert.equal(ring.totals().denied, 5);
});

test('what differs in anything else is another flow', () => {
  const ring = createFlowRing();
  const differing: readonly Partial<NewFlow>[] = [
    {},
    { fromIp: ipv4.parse('10.200.1.9') },
    { from: 'shop/other' },
    { toIp: ipv4.parse('10.200.1.9') },
    { port: 5433 },
    { port: null },
    { protocol: 'udp' },
    { verdict: 'audit' },
    { direction: 'egress' },
    { policy: null },
  ];
  for (const fields of differing) ring.add(flow(fields));
  assert.equal(ring.query({ limit: 100 }).count, differing.length);
});

test('a flow that has been overwritten is not counted on', () => {
  const ring = createFlowRing({ capacity: 2 });
  for (const port of [1, 2, 3, 1]) ring.add(flow({ port }));
  assert.deepEqual(ring.query({ limit: 10 }).flows.map(({ port, count }) => [port, count]), [[1, 1], [3, 1]]);
});

test('it finds by either end, by namespace, by verdict and by time', () => {
  const ring = createFlowRing();
  ring.add(flow());
  ring.add(flow({ to: 'shop-two/db', toIp: ipv4.parse('10.200.1.4'), verdict: 'audit', timeMs: START + 5000 }));
  ring.add(flow({ from: '192.0.2.1', fromIp: ipv4.parse('192.0.2.1'), to: 'other/x', timeMs: START + 9000 }));
  const count = (query: Omit<Parameters<typeof ring.query>[0], 'limit'>): number => ring.query({ ...query, limit: 1 }).count;
  assert.equal(count({ workload: 'shop/web' }), 2);
  assert.equal(count({ workload: 'shop-two/db' }), 1);
  assert.equal(count({ workload: '10.200.1.4' }), 1);
  assert.equal(count({ workload: '192.0.2.1' }), 1);
  assert.equal(count({ workload: 'shop' }), 0);
  assert.equal(count({ namespace: 'shop' }), 2);
  assert.equal(count({ namespace: 'other' }), 1);
  assert.equal(count({ verdict: 'audit' }), 1);
  assert.equal(count({ sinceMs: START + 5000 }), 2);
  assert.equal(count({ sinceMs: START + 9001 }), 0);
  assert.equal(count({ namespace: 'shop', verdict: 'deny', workload: 'shop/db' }), 1);
});

test('a flow that went on after the given time is found by it', () => {
  const ring = createFlowRing();
  ring.add(flow());
  ring.add(flow({ timeMs: START + 800 }));
  assert.equal(ring.query({ sinceMs: START + 500, limit: 1 }).count, 1);
});
