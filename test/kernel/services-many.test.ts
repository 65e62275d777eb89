/** Many services and full ranges on the real kernel: allocation, the dispatch tree, and the one restore process that programs them. */
import { strict as assert } from 'node:assert';
import { after, before, test } from 'node:test';
import { z } from 'zod';
import { allocationKey } from '../../src/ipam/keys.ts';
import { ipv4 } from '../../src/model/address.ts';
import { openSqliteStore } from '../../src/store/sqlite.ts';
import { answered, assertRefused, closeEverything, host, openTestAgent, ownRules, processesRunning, savedRules, STATE_DIRECTORY, type TestAgent } from './agent-fixture.ts';
import { IPTABLES } from './backend.ts';
import { enterNamespace } from './namespace.ts';

const SELECTOR = { app: 'web' };
const SERVICE = { selector: SELECTOR, port: 80, targetPort: 8080 };
let agent: TestAgent;

before(async () => {
  await enterNamespace();
  agent = await openTestAgent();
  await agent.server('web', { labels: SELECTOR });
});

after(closeEverything);

test('ten creates at once give ten virtual IPs; of ten creates of one name one succeeds', async () => {
  const vips = await Promise.all(numbers(10).map((n) => agent.service(`parallel-${n}`, SERVICE)));
  assert.equal(new Set(vips).size, 10);
  for (const vip of vips) assert.equal(answered(await host.tcp(vip, 80)).name, 'web');
  const results = await Promise.allSettled(numbers(10).map(() => agent.service('same', SERVICE)));
  assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 1);
  for (const result of results) if (result.status === 'rejected') assert.equal(codeOf(result.reason), 'SERVICE_EXISTS');
  const { stats } = z.object({ stats: z.object({ clusterIps: z.object({ used: z.int() }) }) }).parse((await agent.invoke('network.status'))['allocator']);
  assert.equal(stats.clusterIps.used, 11);
  await agent.clear();
  await agent.server('web', { labels: SELECTOR });
});

test('200 services are written by one restore process that lives on, and the last of them answers behind few comparisons', async (t) => {
  await agent.service('first', SERVICE);
  const restore = await processesRunning(`${IPTABLES}-restore`);
  assert.equal(restore.length, 1);
  const startedAt = performance.now();
  const vips = await Promise.all(numbers(200).map((n) => agent.service(`many-${n}`, SERVICE)));
  t.diagnostic(`200 services in ${(performance.now() - startedAt).toFixed(0)} ms`);
  assert.deepEqual(await processesRunning(`${IPTABLES}-restore`), restore);
  assert.equal(new Set(vips).size, 200);
  const last = vips.toSorted((a, b) => lastOctet(a) - lastOctet(b)).at(-1) ?? '';
  assert.equal(answered(await host.tcp(last, 80)).name, 'web');
  // 16 children at most in each block of the tree, each of them one rule here.
  const rules = (await savedRules('-t', 'nat')).split('\n');
  const sizes = Map.groupBy(rules.filter((line) => /^-A CLAW-(VIP|SERVICES)/.test(line)), (line) => line.split(' ')[1]);
  assert.ok(sizes.size >= 14, `${sizes.size} blocks`);
  for (const [chain, block] of sizes) assert.ok(block.length <= 17, `${chain ?? ''} has ${block.length} rules`);
  await Promise.all(vips.map((_, n) => agent.invoke('service.delete', { name: `many-${n + 1}` })));
  assert.deepEqual(await processesRunning(`${IPTABLES}-restore`), restore);
  assert.equal((await savedRules('-t', 'nat')).match(/DNAT/g)?.length, 1);
  assertRefused(await host.tcp(last, 80));
  await agent.clear();
});

test('a full range of virtual IPs refuses with a hint and changes nothing; addresses that were given back come last, the oldest first', async () => {
  await agent.close();
  await agent.cleanup();
  await agent.reopen({ ranges: { clusterIp: '10.202.0.0/29' } });
  const vips: string[] = [];
  for (const n of numbers(3)) vips.push(await agent.service(`s-${n}`, SERVICE));
  assert.deepEqual(vips, ['10.202.0.1', '10.202.0.2', '10.202.0.3']);
  await agent.invoke('service.delete', { name: 's-2' });
  await agent.invoke('service.delete', { name: 's-1' });
  for (const n of [4, 5, 6, 7, 8]) vips.push(await agent.service(`s-${n}`, SERVICE));
  assert.deepEqual(vips.slice(3), ['10.202.0.4', '10.202.0.5', '10.202.0.6', '10.202.0.2', '10.202.0.1']);
  const [rules, list] = [await ownRules(), await agent.invoke('service.list')];
  await assert.rejects(agent.invoke('service.create', { name: 'one-more', ...SERVICE }), ({ code, hint }) => code === 'RANGE_FULL' && /service/i.test(hint));
  assert.equal(await ownRules(), rules);
  assert.deepEqual(await agent.invoke('service.list'), list);
  await agent.invoke('service.delete', { name: 's-5' });
  assert.equal(await agent.service('one-more', SERVICE), '10.202.0.5');
  await agent.clear();
});

test('a full workload subnet refuses with a hint and starts nothing', async () => {
  await agent.close();
  const store = await openSqliteStore(`${STATE_DIRECTORY}/store.db`);
  const taken = numbers(252).map((n) => allocationKey({ kind: 'workload', node: 'node-1' }, ipv4.parse(`10.200.1.${n + 2}`)));
  await store.txn([], taken.map((key) => ({ type: 'put' as const, key, value: { v: 1, owner: 'workloads/default/elsewhere' } })));
  await store.close();
  await agent.reopen();
  const command = ['sleep', '1000'];
  const only = await agent.workload('only', { command });
  assert.equal(only.ip, '10.200.1.2');
  await assert.rejects(agent.invoke('workload.run', { name: 'one-more', command }), ({ code, hint }) => code === 'RANGE_FULL' && /workload/i.test(hint));
  assert.equal((await agent.invoke('workload.list'))['count'], 1);
  await agent.stop('only');
  assert.equal((await agent.workload('one-more', { command })).ip, '10.200.1.2');
  await agent.clear();
});

function numbers(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index + 1);
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : error;
}

function lastOctet(ip: string): number {
  return Number(ip.split('.').at(-1));
}
