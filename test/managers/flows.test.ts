/** What network.flows asks for, and what it answers when nothing was found or nothing can be told. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { FlowQuery, ToldFlow } from '../../src/model/flow.ts';
import { ipv4 } from '../../src/model/address.ts';
import { openDoor } from './door.ts';

const told: ToldFlow = {
  time: '2026-01-31T12:00:00.000Z',
  from: 'default/gone',
  fromIp: ipv4.parse('10.200.1.9'),
  to: 'shop/db',
  toIp: ipv4.parse('10.200.1.3'),
  port: 5432,
  protocol: 'tcp',
  verdict: 'deny',
  direction: 'ingress',
  policy: 'shop/db',
  mode: 'enforce',
  count: 2,
};
const asked: FlowQuery[] = [];
const door = await openDoor({
  flows: (query) => {
    asked.push(query);
    const flows = query.workload === undefined || query.workload === told.from || query.workload === told.to ? [told] : [];
    return { flows: query.verdict === 'audit' ? [] : flows, count: query.verdict === 'audit' ? 0 : flows.length };
  },
});
after(() => door.close());

test('arguments become the question, and the answer is as it was told', async () => {
  const answer = await door.call('network.flows', { workload: 'db', namespace: 'shop', verdict: 'deny', since: '2026-01-31T13:00:00+01:00', limit: 7 });
  assert.deepEqual(asked.at(-1), { namespace: 'shop', workload: 'shop/db', verdict: 'deny', sinceMs: Date.parse('2026-01-31T12:00:00Z'), limit: 7 });
  assert.deepEqual(answer, { flows: [told], count: 1, auditWorks: true });
});

test('a name alone is of the default namespace; an address is itself', async () => {
  await door.call('network.flows', { workload: 'gone' });
  assert.deepEqual([asked.at(-1)?.workload, asked.at(-1)?.limit], ['default/gone', 50]);
  await door.call('network.flows', { workload: '10.200.1.77' });
  assert.equal(asked.at(-1)?.workload, '10.200.1.77');
});

test('a misspelt workload is an error, one that is gone is not', async () => {
  await assert.rejects(door.call('network.flows', { workload: 'shop/bd' }), { code: 'WORKLOAD_NOT_FOUND', path: 'workload' });
  assert.deepEqual(await door.call('network.flows', { workload: 'default/gone', verdict: 'audit' }), { flows: [], count: 0, auditWorks: true });
});

test('a time without a zone, or none at all, is refused', async () => {
  for (const since of ['2026-01-31T12:00:00', 'yesterday', '1769860800']) {
    await assert.rejects(door.call('network.flows', { since }), { code: 'INVALID_ARGUMENT', path: 'since' });
  }
});
