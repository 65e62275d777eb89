/** The metrics themselves: their format and names, what makes them grow, and that no caller can make new series. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ClawError, ERROR_CODES } from '../src/errors.ts';
import { createMetrics, type MetricsFacts } from '../src/metrics.ts';
import { tools } from '../tools/index.ts';

const pool = { used: 3, free: 249, quarantined: 1 };
const facts: MetricsFacts = {
  health: {
    kernel: { inSync: false, backend: 'nft', revision: 41, reason: 'x' },
    drift: { repairs: 2 },
    ingress: { port: 8443, running: true },
    metrics: {},
    audit: { works: false, reason: 'x', starting: false, denied: 11, audited: 12, dropped: 13 },
    storeDriver: 'sqlite',
  },
  figures: {
    services: 5,
    ingresses: 4,
    namespaces: 2,
    endpoints: { healthy: 6, unhealthy: 1 },
    workloads: { starting: 0, running: 3, restarting: 0, exited: 1, failed: 0, stopping: 0 },
    pools: { clusterIps: pool, workloadIps: pool },
  },
  conntrack: { entries: 7, maximum: 100 },
  storeRevision: 42,
};
const node = { id: 'n1', mode: 'sandbox', version: '1.2.3' } as const;

function seriesOf(text: string): Map<string, number> {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]));
}

test('every metric has help, a unit in its name where it has one, a line in docs/metrics.md, and is well-formed', async () => {
  const metrics = createMetrics(node);
  metrics.onCall({ command: 'service.create', effect: 'write', durationMs: 3, enforced: true });
  const text = await metrics.text(facts);
  const docs = readFileSync(join(import.meta.dirname, '..', 'docs', 'metrics.md'), 'utf8');
  const documented = new Set(docs.split('\n').filter((line) => line.startsWith('| `')).flatMap((line) => [...(line.split(' | ')[0] ?? '').matchAll(/`(\w+)`/g)].map(([, name]) => name)));
  const types = new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = '', type]) => [name, type]));
  assert.deepEqual([...types.keys()].toSorted(), [...documented].map(String).toSorted());
  for (const [name, type] of types) {
    assert.match(name, /^(clawnode|process)_[a-z_]+$/);
    assert.equal(type === 'counter', name.endsWith('_total'), name);
    if (type === 'histogram') assert.match(name, /_seconds$/);
    assert.match(text, new RegExp(`^# HELP ${name} [A-Z1].{3,}$`, 'm'));
  }
  for (const line of text.split('\n')) assert.match(line, /^$|^# (HELP|TYPE) |^[a-z_]+(\{[a-z]+="[^"\\]*"(,[a-z]+="[^"\\]*")*\})? -?[0-9.e+-]+$/);
});

test('state is taken at each scrape', async () => {
  const metrics = createMetrics(node);
  await metrics.text({ ...facts, health: { ...facts.health, drift: { repairs: 1 } } });
  const series = seriesOf(await metrics.text(facts));
  const expected = {
    clawnode_drift_repairs_total: 2,
    clawnode_services: 5,
    clawnode_ingresses: 4,
    clawnode_namespaces: 2,
    'clawnode_workloads{state="exited"}': 1,
    'clawnode_endpoints{health="unhealthy"}': 1,
    'clawnode_allocator_addresses{pool="cluster_ip",state="quarantined"}': 1,
    clawnode_store_revision: 42,
    clawnode_kernel_revision: 41,
    clawnode_kernel_in_sync: 0,
    clawnode_ingress_proxy_running: 1,
    clawnode_conntrack_entries: 7,
    clawnode_conntrack_entries_max: 100,
    'clawnode_info{version="1.2.3",mode="sandbox",node="n1"}': 1,
  };
  for (const [name, value] of Object.entries(expected)) assert.equal(series.get(name), value, name);
});

test('passes, restores and calls are counted with their failures and times', async () => {
  const metrics = createMetrics(node);
  metrics.onPass({ name: 'kernel', durationMs: 20, failed: false });
  metrics.onPass({ name: 'ingress proxy', durationMs: 1, failed: true });
  metrics.restoreObserver.onStart();
  metrics.restoreObserver.onCommit({ durationMs: 4, failed: false });
  metrics.restoreObserver.onCommit({ durationMs: 4000, failed: true });
  metrics.onCall({ command: 'service.create', effect: 'write', durationMs: 3, enforced: true });
  metrics.onCall({ command: 'service.create', effect: 'write', durationMs: 3, enforced: false });
  metrics.onCall({ command: 'service.get', effect: 'read', durationMs: 3, enforced: true });
  metrics.onCall({ command: 'service_create', durationMs: 1, error: new ClawError('RANGE_FULL', 'full') });
  const series = seriesOf(await metrics.text(facts));
  const expected = {
    'clawnode_programming_duration_seconds_bucket{le="0.025",target="kernel"}': 1,
    'clawnode_programming_duration_seconds_bucket{le="0.01",target="kernel"}': 0,
    'clawnode_programming_failures_total{target="kernel"}': 0,
    'clawnode_programming_failures_total{target="ingress_proxy"}': 1,
    clawnode_restores_total: 2,
    clawnode_restore_failures_total: 1,
    clawnode_restore_duration_seconds_sum: 4.004,
    clawnode_restore_process_starts_total: 1,
    'clawnode_change_programmed_seconds_count{command="service.create"}': 1,
    'clawnode_calls_total{command="service.create",result="ok"}': 2,
    'clawnode_calls_total{command="service.create",result="RANGE_FULL"}': 1,
    'clawnode_calls_total{command="service.get",result="ok"}': 1,
  };
  for (const [name, value] of Object.entries(expected)) assert.equal(series.get(name), value, name);
  assert.ok(![...series.keys()].some((name) => name.startsWith('clawnode_change_programmed') && name.includes('service.get')));
});

test('whatever a caller sends, the number of series stays bounded', async () => {
  const metrics = createMetrics(node);
  for (let n = 0; n < 1000; n += 1) metrics.onCall({ command: `made-up-${n}"\n`, durationMs: 1, error: new ClawError('UNKNOWN_COMMAND', 'x') });
  const calls = [...seriesOf(await metrics.text(facts)).keys()].filter((name) => name.startsWith('clawnode_calls_total'));
  assert.deepEqual(calls, ['clawnode_calls_total{command="unknown",result="UNKNOWN_COMMAND"}']);
  for (const { command } of tools) for (const code of ERROR_CODES) metrics.onCall({ command, durationMs: 1, error: new ClawError(code, 'x') });
  const all = seriesOf(await metrics.text(facts));
  assert.ok(all.size < (tools.length + 1) * (ERROR_CODES.length + 1) + 100, `${all.size} series`);
});
