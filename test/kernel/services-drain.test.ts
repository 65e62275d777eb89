/** Draining on the real kernel: what becomes of open TCP connections when their endpoint leaves its service. */
import { strict as assert } from 'node:assert';
import { after, afterEach, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../src/drivers/exec.ts';
import { answered, assertRefused, buildOutside, closeEverything, host, inside, openTestAgent, startAgentProcess, until, type OutsideHost, type TestAgent, type TestWorkload } from './agent-fixture.ts';
import type { Client } from './agent-prober.ts';
import { enterNamespace, stdoutOf } from './namespace.ts';

const WEB = { labels: { app: 'web' } };
const SERVICE = { selector: WEB.labels, port: 80, targetPort: 8080 };
/** A reset takes some milliseconds; a machine that is busy with other things may take longer. */
const SOON_MS = 1500;
let agent: TestAgent;
let outside: OutsideHost;
let within: Client;

before(async () => {
  await enterNamespace();
  outside = await buildOutside();
  agent = await openTestAgent();
});

afterEach(async () => {
  await agent.clear();
});

after(closeEverything);

test('open connections go on for the drain time, new ones go elsewhere, then idle ones are reset at both ends; no other connection is', async () => {
  const { a } = await pair();
  const vip = await agent.service('web', { ...SERVICE, drainSeconds: 2 });
  const other = await agent.service('other', SERVICE);
  for (const client of [host, within]) {
    await holdAt('a', client, vip, 'idle');
    await holdAt('a', client, vip, 'busy');
    await holdAt('b', client, vip, 'stays');
    await holdAt('a', client, other, 'elsewhere');
    answered(await client.hold('direct', a.ip, 8080));
  }
  await relabel('a', {});
  const left = performance.now();
  for (const client of [host, within]) assert.deepEqual(await namesOf(client, vip), new Set(['b']));
  await sleep(1000);
  for (const client of [host, within]) assert.equal((await client.echo('busy', 'still')).answer, 'still');
  const fates = await Promise.all([host, within].flatMap((client) => ['idle', 'busy'].map((key) => client.fate(key, { timeoutMs: 10_000 }))));
  const ms = performance.now() - left;
  assert.deepEqual(fates.map(({ error }) => error), ['ECONNRESET', 'ECONNRESET', 'ECONNRESET', 'ECONNRESET']);
  assert.ok(ms > 1800 && ms < 2000 + SOON_MS, `reset after ${ms.toFixed(0)} ms`);
  for (const client of [host, within]) {
    for (const key of ['stays', 'elsewhere', 'direct']) assert.equal((await client.echo(key, key)).answer, key);
  }
  // Both clients' connections by the other service and to the address itself.
  assert.equal(await established(a.netns), 4);
});

test('0 resets at once, also a stream that only the server speaks in, and the last endpoint of all', async () => {
  await clientWithin();
  const script = `require('node:net').createServer((socket) => { socket.on('error', () => {}); const timer = setInterval(() => socket.write('a tick'), 50); socket.on('close', () => clearInterval(timer)); }).listen(8080, '0.0.0.0')`;
  const ticker = await agent.workload('ticker', { ...WEB, command: [process.execPath, '-e', script] });
  const vip = await agent.service('web', { ...SERVICE, drainSeconds: 0 });
  for (const client of [host, within]) await until('it ticks', async () => answered(await client.hold('stream', vip, 80)));
  const told = [host, within].map((client) => client.fate('stream'));
  await relabel('ticker', {});
  for (const { error, ms } of await Promise.all(told)) assert.ok(error === 'ECONNRESET' && ms < SOON_MS, `${error ?? ''} after ${ms.toFixed(0)} ms`);
  assert.equal(await established(ticker.netns), 0);
  for (const client of [host, within]) assertRefused(await client.tcp(vip, 80));
});

test('without drainSeconds connections are left to themselves, and taking it away while they drain spares them', async () => {
  await pair();
  const vip = await agent.service('web', SERVICE);
  await holdAt('a', within, vip, 'open');
  await relabel('a', {});
  await sleep(500);
  assert.equal((await within.echo('open', 'x')).answer, 'x');
  await relabel('a', WEB.labels);
  await agent.invoke('service.update', { name: 'web', drainSeconds: 1 });
  await relabel('a', {});
  await agent.invoke('service.update', { name: 'web', drainSeconds: null });
  await sleep(1500);
  assert.equal((await within.echo('open', 'y')).answer, 'y');
});

test('an endpoint that comes back in time keeps its connections; a shorter time counts at once', async () => {
  await pair();
  const vip = await agent.service('web', { ...SERVICE, drainSeconds: 2 });
  await holdAt('a', within, vip, 'open');
  await relabel('a', {});
  await sleep(800);
  await relabel('a', WEB.labels);
  await sleep(2000);
  assert.equal((await within.echo('open', 'x')).answer, 'x');
  await agent.invoke('service.update', { name: 'web', drainSeconds: 3600 });
  await relabel('a', {});
  await sleep(300);
  assert.equal((await within.echo('open', 'y')).answer, 'y');
  await agent.invoke('service.update', { name: 'web', drainSeconds: 0 });
  assert.equal((await within.fate('open')).error, 'ECONNRESET');
});

test('connections drain too when the selector changes, when a port goes, and when the service is deleted', async () => {
  await pair();
  await agent.invoke('workload.update', { name: 'b', labels: { app: 'other' } });
  const vip = await agent.service('web', { ...SERVICE, drainSeconds: 1 });
  await holdAt('a', within, vip, 'selector');
  await agent.invoke('service.update', { name: 'web', selector: { app: 'other' } });
  assert.equal((await within.echo('selector', 'x')).answer, 'x');
  assert.equal((await within.fate('selector')).error, 'ECONNRESET');
  await holdAt('b', within, vip, 'port');
  await agent.invoke('service.update', { name: 'web', port: 81 });
  assert.equal((await within.fate('port')).error, 'ECONNRESET');
  answered(await within.hold('deleted', vip, 81));
  await agent.invoke('service.delete', { name: 'web' });
  assert.equal((await within.echo('deleted', 'x')).answer, 'x');
  assert.equal((await within.fate('deleted')).error, 'ECONNRESET');
});

test('an endpoint outside: its connections are ended at the client', async () => {
  await clientWithin();
  await outside.serve('far', ['tcp:7000']);
  const vip = await agent.service('far', { port: 80, endpoints: [{ ip: outside.ip, port: 7000 }], drainSeconds: 0 });
  for (const client of [host, within]) answered(await client.hold('open', vip, 80));
  await agent.invoke('service.update', { name: 'far', endpoints: null });
  // The node's own socket is destroyed, which its program is told as ECONNABORTED.
  for (const client of [host, within]) assert.match((await client.fate('open')).error ?? '', /^ECONN(?:RESET|ABORTED)$/);
  await until('the far end knows', async () => assert.equal(await established('outside'), 0));
});

test('a client that waits for a server which hangs is told once the health check has failed', async () => {
  await clientWithin();
  const script = `const server = require('node:net').createServer((socket) => socket.on('error', () => {}).write('hangs ')).listen(8080, '0.0.0.0'); setTimeout(() => server.close(), 2500); setInterval(() => {}, 1000)`;
  await agent.workload('hangs', { ...WEB, command: [process.execPath, '-e', script] });
  const healthCheck = { type: 'tcp', intervalMs: 100, timeoutMs: 100, failures: 2 };
  const vip = await agent.service('web', { ...SERVICE, drainSeconds: 0, healthCheck });
  await until('it is healthy', async () => answered(await within.hold('waits', vip, 80)));
  assert.equal((await within.fate('waits', { timeoutMs: 10_000 })).error, 'ECONNRESET');
});

test('workload.stop waits until its connections have ended, and not at all when there are none', async () => {
  await pair();
  const vip = await agent.service('web', { ...SERVICE, drainSeconds: 60 });
  const startedAt = performance.now();
  await agent.stop('b');
  assert.ok(performance.now() - startedAt < 5000, 'nothing was open');
  answered(await within.hold('open', vip, 80));
  let stopped = false;
  const stopping = agent.stop('a').then(() => (stopped = true));
  await until('it has left', async () => assertRefused(await host.tcp(vip, 80)));
  await sleep(1500);
  assert.equal(stopped, false);
  assert.equal((await within.echo('open', 'x')).answer, 'x');
  await within.end('open');
  const endedAt = performance.now();
  await stopping;
  assert.ok(performance.now() - endedAt < 5000);
});

test('workloads that wait for their connections to end hold up no others, however many they are', async () => {
  const names = Array.from({ length: 18 }, (_, index) => `w${index}`);
  const servers = await Promise.all(names.map((name) => agent.server(name, WEB)));
  const vip = await agent.service('web', { ...SERVICE, drainSeconds: 60 });
  for (const { name, ip } of servers) answered(await host.hold(name, ip, 8080));
  const stopping = agent.stop(...names);
  await until('all have left', async () => assertRefused(await host.tcp(vip, 80)));
  const startedAt = performance.now();
  await agent.server('next', WEB);
  assert.ok(performance.now() - startedAt < 10_000);
  assert.equal(answered(await host.tcp(vip, 80)).name, 'next');
  for (const name of names) assert.equal((await host.echo(name, name)).answer, name);
  for (const name of names) await host.end(name);
  await stopping;
});

test('workload.stop resets what is open after the drain time, and lets a request through the ingress end before', async () => {
  await clientWithin();
  const script = `require('node:http').createServer((_, response) => setTimeout(() => response.end('slow'), 1500)).listen(8080, '0.0.0.0')`;
  await agent.workload('slow', { ...WEB, command: [process.execPath, '-e', script] });
  await agent.invoke('ingress.create', { name: 'in', rules: [{ host: 'www.example.com', service: 'web' }] });
  await agent.service('web', { ...SERVICE, drainSeconds: 20 });
  const ask = (): Promise<string> => stdoutOf('curl', '-s', '-H', 'Host: www.example.com', 'http://127.0.0.1:8443/');
  await until('the ingress serves it', async () => assert.equal(await ask(), 'slow'));
  const asked = ask();
  await sleep(300);
  await agent.stop('slow');
  assert.equal(await asked, 'slow');

  await agent.server('a', WEB);
  await agent.invoke('service.update', { name: 'web', drainSeconds: 1 });
  const { clusterIp } = await agent.invoke('service.get', { name: 'web' });
  answered(await within.hold('open', String(clusterIp), 80));
  const fate = within.fate('open', { timeoutMs: 10_000 });
  await agent.stop('a');
  assert.equal((await fate).error, 'ECONNRESET');
});

test('when the agent is killed in the middle of a drain, the next one drains what is still open, and takes a stop to its end', async () => {
  await pair();
  const vip = await agent.service('web', { ...SERVICE, drainSeconds: 2 });
  await holdAt('a', within, vip, 'relabelled');
  await holdAt('b', within, vip, 'stopped');
  await agent.close();
  const first = await startAgentProcess();
  await relabel('a', {});
  const stopping = assert.rejects(agent.stop('b'));
  await until('both have left', async () => assertRefused(await host.tcp(vip, 80)));
  await first.kill();
  await stopping;
  assert.equal((await within.echo('relabelled', 'x')).answer, 'x');
  const second = await startAgentProcess();
  const startedAt = performance.now();
  assert.equal((await within.echo('stopped', 'y')).answer, 'y');
  for (const key of ['relabelled', 'stopped']) assert.equal((await within.fate(key, { timeoutMs: 10_000 })).error, 'ECONNRESET');
  const ms = performance.now() - startedAt;
  assert.ok(ms > 500 && ms < 2000 + SOON_MS + 1000, `reset after ${ms.toFixed(0)} ms`);
  await until('b is gone', async () => await assert.rejects(agent.invoke('workload.get', { name: 'b' }), { code: 'WORKLOAD_NOT_FOUND' }));
  await second.kill();
  await agent.reopen();
});

/** Servers `a` and `b`, and a client in a workload of its own. */
async function pair(): Promise<{ readonly a: TestWorkload; readonly b: TestWorkload }> {
  await clientWithin();
  const [a, b] = await Promise.all([agent.server('a', WEB), agent.server('b', WEB)]);
  return { a, b };
}

async function clientWithin(): Promise<void> {
  within = inside(await agent.workload('client', { command: ['sleep', '1000'] }));
}

/** Connects until the connection is at the endpoint of this name, and keeps that one. */
async function holdAt(name: string, client: Client, vip: string, key: string): Promise<void> {
  await until(`a connection to ${name}`, async () => assert.equal(answered(await client.hold(key, vip, 80)).name, name));
}

async function relabel(name: string, labels: Readonly<Record<string, string>>): Promise<void> {
  await agent.invoke('workload.update', { name, labels });
}

async function namesOf(client: Client, vip: string): Promise<Set<string>> {
  const names = new Set<string>();
  for (let n = 0; n < 12; n += 1) names.add(answered(await client.tcp(vip, 80)).name);
  return names;
}

/** How many connections the sockets of a network namespace have. */
async function established(netns: string): Promise<number> {
  const { stdout } = await run(['nsenter', `--net=/run/netns/${netns}`, 'ss', '-Htn', 'state', 'established', '( sport = 8080 or sport = 7000 )']);
  return stdout.split('\n').filter((line) => line !== '').length;
}
