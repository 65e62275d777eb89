/** Changes, progress and cancellation through `clawnode mcp` in front of a real agent in a sandbox, on stdio and over HTTP. */
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { ResourceUpdatedNotificationSchema, type Progress } from '@modelcontextprotocol/sdk/types.js';
import { openSandbox, type Sandbox } from '../../src/sandbox/sandbox.ts';
import { connectAgent, RESTART_WAIT_MS, type AgentClient } from '../../src/surfaces/agent-client.ts';
import { eventually, runInside } from '../cli/sandbox-fixture.ts';
import { call, connectStdio, serveHttp } from './fixture-mcp.ts';

const never = new AbortController().signal;
const STATUS = 'network://status';
const SERVICES = 'network://services';
const POLICIES = 'network://policies';
const WEB = 'network://services/default/web';
/** Echoes what it is sent, until it is killed. */
const SERVER = "require('node:net').createServer((socket) => { socket.on('error', () => {}); socket.pipe(socket); }).listen(8080)";
/** Holds one connection to the address in its argument, and says when it has it. */
const HOLDER = "const socket = require('node:net').connect(80, process.argv[1], () => console.log('held')); socket.on('error', () => {}); setInterval(() => {}, 1000)";

let sandbox: Sandbox;
let other: AgentClient;

before(async () => {
  sandbox = await openSandbox({}, never);
  other = connectAgent(sandbox.socketPath, { surface: 'cli', restartWaitMs: RESTART_WAIT_MS });
});

afterEach(async () => {
  const names = async (command: string, list: string): Promise<string[]> => {
    const found = record(await invoke(command))[list];
    return Array.isArray(found) ? found.map((item: { name: string }) => item.name) : [];
  };
  const left = [
    ...(await names('workload.list', 'workloads')).map((name) => ['workload.stop', name] as const),
    ...(await names('service.list', 'services')).map((name) => ['service.delete', name] as const),
    ...(await names('network.policy.list', 'policies')).map((name) => ['network.policy.delete', name] as const),
  ];
  await Promise.all(left.map(([command, name]) => invoke(command, { name })));
});

after(() => sandbox.close());

const CONNECT: Readonly<Record<string, (t: TestContext) => Promise<Client>>> = {
  stdio: (t) => connectStdio(t, { args: ['--toolsets', 'all'], socket: sandbox.socketPath }),
  HTTP: async (t) => {
    const { connect } = await serveHttp(t, { args: ['--toolsets', 'all'], socket: sandbox.socketPath });
    const client = await connect();
    t.after(() => client.close());
    return client;
  },
};

function invoke(command: string, params: Record<string, unknown> = {}): Promise<unknown> {
  return other.invoke(command, params, never);
}

/** Removes what a test has made, last first. */
async function remove(...commands: readonly (readonly [string, string])[]): Promise<void> {
  for (const [command, name] of commands) await invoke(command, { name });
}

interface Told {
  readonly uri: string;
  readonly atMs: number;
}

async function subscribe(client: Client, ...uris: readonly string[]): Promise<Told[]> {
  const told: Told[] = [];
  client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params: { uri } }) => void told.push({ uri, atMs: performance.now() }));
  for (const uri of uris) await client.subscribeResource({ uri });
  return told;
}

/** Waits until all of these were told of, and a while longer whether anything else was. */
async function onlyTold(told: Told[], expected: readonly string[], why?: string): Promise<void> {
  await eventually(async () => told.map(({ uri }) => uri), (seen) => expected.every((uri) => seen.includes(uri)));
  await delay(700);
  assert.deepEqual(taken(told), expected.toSorted(), why);
}

/** What was told of since it was last asked, each once. */
function taken(told: Told[]): string[] {
  return [...new Set(told.splice(0).map(({ uri }) => uri))].toSorted();
}

for (const [how, connect] of Object.entries(CONNECT)) {
  test(`over ${how}, what another client changes is told at once, and nothing without a change`, async (t) => {
    await invoke('service.create', { name: 'web', selector: { app: 'web' }, port: 80, targetPort: 8080 });
    const client = await connect(t);
    const told = await subscribe(client, STATUS, SERVICES, POLICIES, WEB);
    await delay(1_500);
    taken(told);
    await delay(2_000);
    assert.deepEqual(taken(told), [], 'nothing has changed');

    const startedAt = performance.now();
    await invoke('network.policy.create', { name: 'db', selector: { app: 'db' }, ingress: [], egress: [] });
    await eventually(async () => told, (seen) => seen.some(({ uri }) => uri === POLICIES));
    const tookMs = (told[0]?.atMs ?? 0) - startedAt;
    t.diagnostic(`the first notification came after ${tookMs.toFixed(0)} ms`);
    // Some 50 ms; a machine that is busy with other things may take longer.
    assert.ok(tookMs < 3_000, `${tookMs} ms`);
    await onlyTold(told, [POLICIES, STATUS]);

    await invoke('service.create', { name: 'other', selector: { app: 'other' }, port: 80 });
    await onlyTold(told, [SERVICES, STATUS], 'another service is not this one');

    // An endpoint that comes and one that dies are changes of the service.
    await invoke('workload.run', { name: 'web-1', labels: { app: 'web' }, command: [process.execPath, '-e', SERVER], ports: [{ name: 'http', port: 8080 }] });
    await onlyTold(told, [SERVICES, WEB, STATUS]);
    await runInside(sandbox, ['pkill', '-KILL', '-f', 'socket.pipe.socket.']);
    await onlyTold(told, [SERVICES, WEB, STATUS]);

    for (const uri of [STATUS, SERVICES, WEB]) await client.unsubscribeResource({ uri });
    await remove(['service.delete', 'web'], ['service.delete', 'other'], ['workload.stop', 'web-1']);
    await delay(1_000);
    assert.deepEqual(taken(told), [], 'it was unsubscribed');
    await remove(['network.policy.delete', 'db']);
    await onlyTold(told, [POLICIES]);
  });

  test(`over ${how}, a killed agent is followed again, and anything may have changed`, async (t) => {
    const client = await connect(t);
    const told = await subscribe(client, STATUS, SERVICES);
    const { pid } = await other.health(never);
    await runInside(sandbox, ['kill', '-KILL', `${pid}`]);
    await eventually(async () => taken([...told]), (seen) => seen.length === 2);
    await delay(1_500);
    taken(told);
    await invoke('service.create', { name: 'after', selector: { app: 'x' }, port: 80 });
    await eventually(async () => taken([...told]), (seen) => seen.includes(SERVICES));
  });

  test(`over ${how}, a client that goes leaves no connection at the agent`, async (t) => {
    const { pid } = await other.health(never);
    const sockets = async (): Promise<number> => Number((await runInside(sandbox, ['sh', '-c', `ls -l /proc/${pid}/fd | grep -c socket:`])).stdout);
    let idle = -1;
    // An agent that has just started opens and closes some of its own.
    for (let last = -2; last !== idle; await delay(500)) [last, idle] = [idle, await sockets()];
    const clients: Client[] = [];
    for (let index = 0; index < 3; index += 1) clients.push(await connect(t));
    for (const client of clients) await subscribe(client, STATUS, SERVICES, POLICIES);
    assert.ok((await sockets()) >= idle + 3, 'each listens');
    for (const client of clients) {
      if (client.transport !== undefined && 'terminateSession' in client.transport && typeof client.transport.terminateSession === 'function') await client.transport.terminateSession();
      await client.close();
    }
    await eventually(sockets, (now) => now <= idle);
  });

  test(`over ${how}, a stop that waits for connections tells so each second, and cancelled it ends for its caller`, async (t) => {
    await invoke('service.create', { name: 'web', selector: { app: 'web' }, port: 80, targetPort: 8080, drainSeconds: 60 });
    await invoke('workload.run', { name: 'web-1', labels: { app: 'web' }, command: [process.execPath, '-e', SERVER], ports: [{ name: 'http', port: 8080 }] });
    const { clusterIp } = record(await invoke('service.get', { name: 'web' }));
    await invoke('workload.run', { name: 'holder', command: [process.execPath, '-e', HOLDER, String(clusterIp)] });
    await eventually(async () => JSON.stringify(await invoke('workload.logs', { name: 'holder' })), (seen) => seen.includes('held'));

    const client = await connect(t);
    const since = new Date();
    const cancelling = new AbortController();
    const told: Progress[] = [];
    const stop = client.callTool({ name: 'workload_stop', arguments: { name: 'web-1' } }, undefined, { signal: cancelling.signal, onprogress: (progress) => void told.push(progress) });
    stop.catch(() => undefined);
    await eventually(async () => told, (seen) => seen.length >= 2);
    assert.deepEqual(told.slice(0, 2).map(({ progress }) => progress), [1, 2]);
    assert.match(told[0]?.message ?? '', /open connections/);
    cancelling.abort('enough');
    await assert.rejects(stop, /enough/);
    const stopped = await eventually(() => audited('workload.stop', since), (seen) => seen !== undefined);
    assert.equal(stopped?.result, 'CANCELLED', 'the agent no longer carries it out');
    const heard = told.length;

    // The stop itself was stored: the workload takes nothing new, and goes once its connections have ended.
    assert.equal((await call(client, 'service_endpoints', { name: 'web' })).structuredContent?.['total'], 0);
    await invoke('workload.stop', { name: 'holder' });
    await eventually(async () => record(await invoke('workload.list'))['count'], (count) => count === 0);
    assert.equal(told.length, heard, 'no progress of what was cancelled');
    await remove(['service.delete', 'web']);
    assert.equal(record(record(await invoke('network.status'))['kernel'])['inSync'], true);
  });

  test(`over ${how}, a cancelled probe ends at the agent`, async (t) => {
    const idle = [process.execPath, '-e', 'setInterval(() => {}, 1000)'];
    await invoke('workload.run', { name: 'prober', command: idle });
    const { id } = record(await invoke('workload.run', { name: 'silent', command: idle }));
    // It answers nothing at all, so that a connection to it is tried for three seconds.
    assert.equal((await runInside(sandbox, ['nsenter', `--net=/run/netns/claw-${String(id)}`, 'iptables', '--append', 'INPUT', '--protocol', 'tcp', '--jump', 'DROP'])).exitCode, 0);
    const client = await connect(t);
    const since = new Date();
    const cancelling = new AbortController();
    const port = 10_000 + (process.pid % 50_000);
    const probe = client.callTool({ name: 'network_probe', arguments: { from: 'default/prober', to: 'default/silent', port, protocol: 'tcp' } }, undefined, { signal: cancelling.signal });
    const early = probe.then((answer) => assert.fail(`it was answered: ${JSON.stringify(answer)}`));
    await Promise.race([early, eventually(() => probes(port), (count) => count > 0)]);
    early.catch(() => undefined);
    cancelling.abort('enough');
    await assert.rejects(probe, /enough/);
    await eventually(() => probes(port), (count) => count === 0);
    const probed = await eventually(() => audited('network.probe', since), (seen) => seen !== undefined);
    assert.equal(probed?.result, 'CANCELLED');
    assert.equal((await call(client, 'workload_get', { name: 'prober' })).structuredContent?.['state'], 'running');
  });
}

test('200 calls at once on stdio are all answered', async (t) => {
  const client = await connectStdio(t, { args: ['--toolsets', 'all'], socket: sandbox.socketPath });
  const names = Array.from({ length: 200 }, (_, index) => `s-${index}`);
  const made = await Promise.all(names.map((name) => call(client, 'service_create', { name, selector: { app: name }, port: 80 })));
  assert.deepEqual(made.filter(({ isError, structuredContent }) => isError === true || structuredContent?.['enforced'] !== true), []);
  const read = await Promise.all(names.map((name) => call(client, 'service_get', { name })));
  assert.deepEqual(read.map(({ structuredContent }) => structuredContent?.['name']), names);
  const gone = await Promise.all(names.map((name) => call(client, 'service_delete', { name })));
  assert.ok(gone.every(({ isError }) => isError === undefined));
});

test('the model tells of changes too', async (t) => {
  const client = await connectStdio(t, { args: ['--mode', 'model'] });
  const told = await subscribe(client, SERVICES, POLICIES);
  await delay(500);
  assert.deepEqual(taken(told), []);
  await call(client, 'service_create', { name: 'web', selector: { app: 'web' }, port: 80 });
  await eventually(async () => [...told], (seen) => seen.length > 0);
  await delay(300);
  assert.deepEqual(taken(told), [SERVICES]);
  await call(client, 'workload_run', { name: 'web-1', labels: { app: 'web' }, command: ['x'] });
  await eventually(async () => [...told], (seen) => seen.length > 0);
  assert.deepEqual(taken(told), [SERVICES], 'an endpoint more');
});

/** Attempts at a connection to the port that are under way; what runs inside is seen from outside too, and faster. */
async function probes(port: number): Promise<number> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const commands = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
  return commands.filter((command) => command.includes('probe-attempt') && command.split('\0').includes(`${port}`)).length;
}

interface Audited {
  readonly time: string;
  readonly command: string;
  readonly surface: string;
  readonly result: string;
}

/** The first call of an MCP client to the command since then; calls of others are none of it. */
async function audited(command: string, since: Date): Promise<Audited | undefined> {
  const shared = join(sandbox.socketPath, '..');
  const file = (await readdir(shared, { recursive: true })).find((name) => name.endsWith('audit.log'));
  if (file === undefined) return undefined;
  const lines = (await readFile(join(shared, file), 'utf8')).trim().split('\n');
  return lines.map((line): Audited => JSON.parse(line)).find((entry) => entry.command === command && entry.surface === 'mcp' && new Date(entry.time) >= since);
}

function record(value: unknown): Record<string, unknown> {
  assert.ok(typeof value === 'object' && value !== null);
  return Object.fromEntries(Object.entries(value));
}
