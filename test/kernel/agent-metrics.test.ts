/** What `/metrics` and `network.status` tell of an agent on the real kernel, small and with thousands of services. */
import { strict as assert } from 'node:assert';
import { createServer } from 'node:http';
import { request } from 'node:http';
import { after, before, test } from 'node:test';
import { z } from 'zod';
import { run } from '../../src/drivers/exec.ts';
import { openSqliteStore } from '../../src/store/sqlite.ts';
import { closeEverything, openTestAgent, processesRunning, STATE_DIRECTORY, until, type TestAgent } from './agent-fixture.ts';
import { enterNamespace, stdoutOf } from './namespace.ts';

const URL_OF_METRICS = 'http://127.0.0.1:10201/metrics';
const SERVICE = { selector: { app: 'web' }, port: 80, targetPort: 8080 };
const status = z.looseObject({
  workloads: z.record(z.string(), z.number()),
  conntrack: z.object({ entries: z.number(), maximum: z.number() }),
  kernel: z.looseObject({ inSync: z.boolean(), lastPassMs: z.number() }),
  metrics: z.looseObject({ url: z.string().optional(), failure: z.string().optional() }),
  serviceDiscovery: z.looseObject({ endpoints: z.number(), healthy: z.number() }),
  warnings: z.array(z.string()),
});
let agent: TestAgent;

before(async () => {
  await enterNamespace();
  agent = await openTestAgent();
});

after(closeEverything);

test('figures of what is there, counters of what happened', async () => {
  await agent.server('web', { labels: { app: 'web' } });
  await agent.service('web', SERVICE);
  await agent.service('nobody', { ...SERVICE, selector: { app: 'nobody' } });
  await assert.rejects(agent.invoke('service.create', { name: 'web', ...SERVICE }));
  await assert.rejects(agent.invoke('service.get', { name: 'absent' }));
  for (const name of ['x.one', 'x.two']) await assert.rejects(agent.invoke(name));
  const metrics = await scrape();
  assert.equal(metrics.get('clawnode_services'), 2);
  assert.equal(metrics.get('clawnode_workloads{state="running"}'), 1);
  assert.equal(metrics.get('clawnode_workloads{state="failed"}'), 0);
  assert.equal(metrics.get('clawnode_endpoints{health="healthy"}'), 1);
  assert.equal(metrics.get('clawnode_endpoints{health="unhealthy"}'), 0);
  assert.equal(metrics.get('clawnode_allocator_addresses{pool="cluster_ip",state="used"}'), 2);
  assert.equal(metrics.get('clawnode_allocator_addresses{pool="workload_ip",state="used"}'), 1);
  assert.equal(metrics.get('clawnode_allocator_addresses{pool="workload_ip",state="free"}'), 252);
  assert.equal(metrics.get('clawnode_kernel_in_sync'), 1);
  assert.equal(metrics.get('clawnode_kernel_revision'), metrics.get('clawnode_store_revision'));
  assert.equal(metrics.get('clawnode_calls_total{command="service.create",result="ok"}'), 2);
  assert.equal(metrics.get('clawnode_calls_total{command="service.create",result="SERVICE_EXISTS"}'), 1);
  assert.equal(metrics.get('clawnode_calls_total{command="service.get",result="SERVICE_NOT_FOUND"}'), 1);
  assert.equal(metrics.get('clawnode_calls_total{command="unknown",result="UNKNOWN_COMMAND"}'), 2);
  assert.equal(metrics.get('clawnode_change_programmed_seconds_count{command="service.create"}'), 2);
  assert.ok((metrics.get('clawnode_programming_duration_seconds_count{target="kernel"}') ?? 0) > 3);
  assert.equal(metrics.get('clawnode_programming_failures_total{target="kernel"}'), 0);
  assert.ok((metrics.get('clawnode_restores_total') ?? 0) >= 3);
  assert.equal(metrics.get('clawnode_restore_failures_total'), 0);
  assert.equal(metrics.get('clawnode_restore_process_starts_total'), 1);
  assert.ok((metrics.get('clawnode_conntrack_entries_max') ?? 0) > 1000);
  const { warnings, ...facts } = status.parse(await agent.invoke('network.status'));
  assert.deepEqual(warnings, ['service default/nobody has no healthy endpoint and refuses connections']);
  assert.deepEqual(facts.workloads, { total: 1, running: 1 });
  assert.deepEqual([facts.serviceDiscovery.endpoints, facts.serviceDiscovery.healthy, facts.metrics.url], [1, 1, URL_OF_METRICS]);
  assert.equal(facts.conntrack.maximum, metrics.get('clawnode_conntrack_entries_max'));
  assert.ok(facts.kernel.lastPassMs > 0);
});

test('a restore process that was killed and rules that others deleted are counted', async () => {
  const [restore = 0] = await processesRunning('iptables-nft-restore');
  await run(['kill', '-KILL', String(restore)]);
  await agent.invoke('service.delete', { name: 'nobody' });
  const repairs = (await scrape()).get('clawnode_drift_repairs_total') ?? 0;
  await run(['iptables', '-t', 'nat', '-F']);
  await until('the repair is counted', async () => assert.ok(((await scrape()).get('clawnode_drift_repairs_total') ?? 0) > repairs));
  assert.ok(((await scrape()).get('clawnode_restore_process_starts_total') ?? 0) >= 2);
});

test('nobody but this machine is served, under its own name, with GET, and only /metrics', async () => {
  for (const [host, code] of [['127.0.0.1:10201', 200], ['localhost:10201', 200], ['attacker.example:10201', 403], ['127.0.0.1.attacker.example', 403], ['', 403]] as const) {
    assert.equal(await codeOf({ headers: { host } }), code, host);
  }
  assert.equal(await codeOf({ method: 'POST', headers: { host: '127.0.0.1:10201' } }), 405);
  assert.equal(await codeOf({ path: '/', headers: { host: '127.0.0.1:10201' } }), 404);
  const listening = (await stdoutOf('ss', '-Hltn', 'sport', '=', ':10201')).trim().split('\n');
  assert.equal(listening.length, 1);
  assert.match(listening[0] ?? '', /127\.0\.0\.1:10201/);
});

test('a port that is taken costs the metrics, not the agent; switched off means nobody listens', async () => {
  await agent.close();
  const other = createServer().listen(10_201, '127.0.0.1');
  await agent.reopen();
  const taken = status.parse(await agent.invoke('network.status'));
  assert.equal(taken.metrics.failure, '127.0.0.1:10201 is in use by another program');
  assert.deepEqual(taken.warnings, ['metrics are not served: 127.0.0.1:10201 is in use by another program']);
  await agent.close();
  await new Promise((resolve) => other.close(resolve));
  await agent.reopen({ metrics: { enabled: false } });
  assert.deepEqual(status.parse(await agent.invoke('network.status')).metrics, {});
  await assert.rejects(fetch(URL_OF_METRICS));
  await agent.close();
  await agent.reopen({ metrics: { port: 10_299 } });
  assert.equal(status.parse(await agent.invoke('network.status')).metrics.url, 'http://127.0.0.1:10299/metrics');
  assert.equal((await fetch('http://127.0.0.1:10299/metrics')).status, 200);
});

test('with 5,000 services a scrape and a status cost little', async (t) => {
  await agent.close();
  const store = await openSqliteStore(`${STATE_DIRECTORY}/store.db`);
  const createdAt = new Date().toISOString();
  const ops = Array.from({ length: 5000 }, (_, n) => ({ name: `many-${n}`, clusterIp: `10.201.${100 + Math.floor(n / 250)}.${(n % 250) + 1}` })).flatMap(({ name, clusterIp }) => [
    {
      type: 'put' as const,
      key: `services/default/${name}`,
      value: { v: 1, createdAt, namespace: 'default', name, clusterIp, selector: { app: 'web' }, ports: [{ port: 80, protocol: 'tcp', targetPort: 8080 }], manyPorts: false, endpoints: [] },
    },
    { type: 'put' as const, key: `ipam/clusterip/${clusterIp}`, value: { v: 1, owner: `services/default/${name}` } },
  ]);
  await store.txn([], ops);
  await store.close();
  await agent.reopen();
  assert.equal((await scrape()).get('clawnode_endpoints{health="healthy"}'), 5001);
  const scrapes = await timed(() => scrape());
  const statuses = await timed(() => agent.invoke('network.status'));
  t.diagnostic(`scrape ${scrapes.toFixed(1)} ms, network.status ${statuses.toFixed(1)} ms (median of 9)`);
  assert.ok(scrapes < 50, `a scrape takes ${scrapes} ms`);
});

async function scrape(): Promise<Map<string, number>> {
  const response = await fetch(URL_OF_METRICS);
  assert.equal(response.status, 200);
  assert.match(response.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/);
  const lines = (await response.text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]));
}

function codeOf({ method = 'GET', path = '/metrics', headers }: { method?: string; path?: string; headers: Record<string, string> }): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    request({ host: '127.0.0.1', port: 10_201, method, path, headers, setHost: false }, (response) => {
      response.resume();
      resolve(response.statusCode);
    })
      .once('error', reject)
      .end();
  });
}

async function timed(act: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let n = 0; n < 9; n += 1) {
    const startedAt = performance.now();
    await act();
    times.push(performance.now() - startedAt);
  }
  return times.toSorted((a, b) => a - b)[4] ?? 0;
}
