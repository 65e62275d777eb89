/** The model: every command through the same door, nothing in force, and nothing left behind. */
import assert from 'node:assert/strict';
import { access, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test, type TestContext } from 'node:test';
import { pino } from 'pino';
import { ClawError } from '../src/errors.ts';
import { MODEL_REASON, openModelAgent } from '../src/model-agent.ts';
import { findTool, tools } from '../tools/index.ts';

const never = new AbortController().signal;
const logger = pino({ level: 'silent' });
const caller = { surface: 'test', peer: Promise.resolve('test') };
const folder = await mkdtemp(join(tmpdir(), 'claw-model-test-'));
const usualTmp = process.env['TMPDIR'];
process.env['TMPDIR'] = folder;
after(async () => {
  if (usualTmp === undefined) delete process.env['TMPDIR'];
  else process.env['TMPDIR'] = usualTmp;
  await rm(folder, { recursive: true, force: true });
});

type Invoke = (command: string, params?: unknown) => Promise<Record<string, unknown>>;

async function openModel(t: TestContext, configFile?: string): Promise<Invoke> {
  const agent = await openModelAgent({ nodeId: 'n1', logger, ...(configFile === undefined ? {} : { configFile }) });
  t.after(() => agent.close());
  return (command, params = {}) => agent.invoke({ command, params, caller }, never);
}

const WEB = { name: 'web' };
const RULES = [{ host: 'www.example.com', service: 'web' }];

/** What would have to exist, so there is none of it in a model. */
const REFUSED = ['workload.attach', 'workload.detach', 'network.probe'];

/** One call of each other command, in an order in which all of them succeed. */
const SESSION: readonly (readonly [command: string, params: Readonly<Record<string, unknown>>])[] = [
  ['namespace.create', { name: 'team-a', labels: { tier: 'gold' } }],
  ['namespace.update', { name: 'team-a', labels: {} }],
  ['namespace.list', {}],
  ['namespace.delete', { name: 'team-a' }],
  ['workload.run', { ...WEB, labels: { app: 'web' }, command: ['/no/such/program'], ports: [{ name: 'http', port: 8080 }] }],
  ['workload.get', WEB],
  ['workload.list', {}],
  ['workload.logs', WEB],
  ['service.create', { ...WEB, selector: { app: 'web' }, port: 80, targetPort: 'http' }],
  ['service.update', { ...WEB, port: 81, targetPort: 'http' }],
  ['service.get', WEB],
  ['service.list', {}],
  ['service.endpoints', WEB],
  ['ingress.create', { ...WEB, rules: RULES }],
  ['ingress.update', { ...WEB, rules: RULES, tls: true }],
  ['ingress.get', WEB],
  ['ingress.list', {}],
  ['ingress.delete', WEB],
  ['network.policy.create', { ...WEB, selector: { app: 'web' }, ingress: [{ port: 'http', from: { selector: { app: 'api' } } }] }],
  ['network.policy.update', { ...WEB, egress: [], mode: 'audit' }],
  ['network.policy.get', WEB],
  ['network.policy.list', {}],
  ['network.explain', { from: '192.0.2.7', to: 'web', port: 80 }],
  ['network.simulate', { workloads: [{ name: 'a', ports: [{ port: 80 }] }] }],
  ['network.flows', {}],
  ['network.policy.delete', WEB],
  ['workload.update', { ...WEB, labels: { app: 'api' } }],
  ['workload.stop', WEB],
  ['service.delete', WEB],
  ['network.apply', { manifest: '{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a"}}' }],
  ['network.export', { namespace: 'team-a' }],
  ['network.status', {}],
];

test('every command answers by its schema, and none that can be in force says it is', async (t) => {
  assert.deepEqual(
    [...SESSION.map(([command]) => command), ...REFUSED].toSorted(),
    tools.map(({ command }) => command).toSorted(),
  );
  const invoke = await openModel(t);
  for (const [command, params] of SESSION) {
    const answer = await invoke(command, params);
    const { output } = findTool(command) ?? assert.fail(command);
    assert.deepEqual(output.safeParse(answer).error?.issues, undefined, command);
    if (!('enforced' in output.shape)) continue;
    assert.equal(answer['enforced'], false, command);
    // Its reason is that of the verdict.
    if (command === 'network.explain') continue;
    assert.ok(String(answer['reason']).includes(MODEL_REASON), `${command}: ${String(answer['reason'])}`);
  }
});

test('a workload gets its address and stands behind its service, and is never said to be healthy or running', async (t) => {
  const invoke = await openModel(t);
  await invoke('service.create', { ...WEB, selector: { app: 'web' }, port: 80, targetPort: 'http' });
  await invoke('ingress.create', { ...WEB, rules: RULES });
  const run = await invoke('workload.run', { ...WEB, labels: { app: 'web' }, command: ['x'], ports: [{ name: 'http', port: 8080 }] });
  assert.deepEqual({ state: run['state'], message: run['message'], meshIp: run['meshIp'] }, { state: 'starting', message: MODEL_REASON, meshIp: '10.200.1.2' });
  const endpoints = await invoke('service.endpoints', WEB);
  assert.deepEqual(endpoints['endpoints'], [{ ip: '10.200.1.2', port: 8080, containerId: run['id'], healthy: false, reason: MODEL_REASON, node: 'n1' }]);
  assert.deepEqual({ total: endpoints['total'], healthy: endpoints['healthy'] }, { total: 1, healthy: 0 });
  const ingress = await invoke('ingress.get', WEB);
  assert.deepEqual(ingress['rules'], [{ host: 'www.example.com', path: '/', service: 'web', ready: false }]);
  assert.equal((await invoke('workload.stop', WEB))['released'], '10.200.1.2');
  assert.equal((await invoke('service.endpoints', WEB))['total'], 0);
  assert.equal((await invoke('workload.list'))['count'], 0);
  await assert.rejects(invoke('workload.get', WEB), { code: 'WORKLOAD_NOT_FOUND' });
});

test('a fixed endpoint gets no traffic either, an image can be rehearsed, and there is nothing to attach', async (t) => {
  const invoke = await openModel(t);
  await invoke('service.create', { name: 'db', port: 5432, endpoints: [{ ip: '192.0.2.7' }] });
  const { total, healthy } = await invoke('service.endpoints', { name: 'db' });
  assert.deepEqual({ total, healthy }, { total: 1, healthy: 0 });
  const { state, enforced } = await invoke('workload.run', { name: 'boxed', image: 'no/such:image' });
  assert.deepEqual({ state, enforced }, { state: 'starting', enforced: false });
  await assert.rejects(invoke('workload.attach', { name: 'theirs', container: 'box' }), { code: 'NOT_SUPPORTED', path: 'container' });
  await assert.rejects(invoke('workload.attach', { name: 'theirs', netns: '/run/netns/box' }), { code: 'NOT_SUPPORTED' });
  await assert.rejects(invoke('workload.detach', { name: 'theirs' }), { code: 'WORKLOAD_NOT_FOUND' });
  assert.equal((await invoke('workload.list'))['count'], 1, 'what was refused left nothing behind');
});

test('what several callers stop at once is removed once, and the next of its name is another one', async (t) => {
  const invoke = await openModel(t);
  const run = (): ReturnType<Invoke> => invoke('workload.run', { ...WEB, command: ['x'] });
  for (let round = 0; round < 10; round += 1) {
    await run();
    const stops = Array.from({ length: 4 }, () => invoke('workload.stop', WEB));
    const again = stops[0]?.then(run);
    const outcomes = await Promise.allSettled(stops);
    assert.ok(outcomes.every((outcome) => outcome.status === 'fulfilled' || outcome.reason.code === 'WORKLOAD_NOT_FOUND'));
    const id = (await again)?.['id'];
    assert.equal((await invoke('workload.get', WEB))['id'], id);
    await invoke('workload.stop', WEB);
  }
});

test('the status says model, and that kernel and ingress are not there', async (t) => {
  const invoke = await openModel(t);
  const { mode, node, kernel, ingress } = await invoke('network.status');
  assert.deepEqual(
    { mode, node, kernel, ingress },
    {
      mode: 'model',
      node: 'n1',
      kernel: { inSync: false, backend: 'none', revision: 0, reason: MODEL_REASON },
      ingress: { port: 8443, running: false, reason: MODEL_REASON },
    },
  );
});

test('the rules of every mode hold: wrong arguments, conflicts, limits of a session, addresses', async (t) => {
  const agent = await openModelAgent({ nodeId: 'n1', logger });
  t.after(() => agent.close());
  const create = { command: 'service.create', params: { ...WEB, port: 80 }, caller };
  await assert.rejects(agent.invoke({ ...create, limits: { readOnly: true } }, never), { code: 'NOT_ALLOWED' });
  await assert.rejects(agent.invoke({ ...create, limits: { toolsets: ['ingress'] } }, never), { code: 'NOT_ALLOWED' });
  await assert.rejects(agent.invoke({ ...create, params: { ...WEB, port: 80_000 } }, never), { code: 'INVALID_ARGUMENT', path: 'port' });
  assert.equal((await agent.invoke(create, never))['clusterIp'], '10.201.0.1');
  await assert.rejects(agent.invoke(create, never), { code: 'SERVICE_EXISTS' });
  const many = await Promise.all(Array.from({ length: 50 }, (_, index) => agent.invoke({ ...create, params: { name: `web-${index}`, port: 80 } }, never)));
  assert.equal(new Set(many.map(({ clusterIp }) => clusterIp)).size, 50);
});

test('the configuration counts: ranges, node number, and what is wrong with them', async (t) => {
  const file = join(folder, 'model.yaml');
  await writeFile(file, 'nodeNumber: 7\nranges:\n  clusterIp: 10.99.0.0/16\n');
  const invoke = await openModel(t, file);
  assert.equal((await invoke('service.create', { ...WEB, port: 80 }))['clusterIp'], '10.99.0.1');
  assert.equal((await invoke('workload.run', { ...WEB, command: ['x'] }))['meshIp'], '10.200.7.2');
  await writeFile(file, 'ranges:\n  clusterIp: 10.200.0.0/16\n');
  await assert.rejects(openModelAgent({ logger, configFile: file }), (error) => error instanceof ClawError && error.code === 'RANGE_OVERLAP');
  await writeFile(file, 'ranges:\n  workload: 10.200.0.0/20\nnodeNumber: 200\n');
  await assert.rejects(openModelAgent({ logger, configFile: file }), (error) => error instanceof ClawError && error.path === 'ranges.workload');
  await assert.rejects(openModelAgent({ logger, nodeId: 'No Name' }), (error) => error instanceof ClawError && error.path === 'nodeId');
});

test('two models are two, and each forgets everything when it is closed', async () => {
  const before = await models();
  const [one, two] = await Promise.all([openModelAgent({ logger }), openModelAgent({ logger })]);
  await one.invoke({ command: 'service.create', params: { ...WEB, port: 80 }, caller }, never);
  assert.equal((await two.invoke({ command: 'service.list', params: {}, caller }, never))['count'], 0);
  const opened = (await models()).filter((name) => !before.includes(name));
  assert.equal(opened.length, 2);
  for (const name of opened) await access(join(folder, name, 'store.db'));
  await Promise.all([one.close(), two.close()]);
  assert.deepEqual(await models(), before);
});

async function models(): Promise<string[]> {
  return (await readdir(folder)).filter((name) => name.startsWith('clawnode-model-'));
}
