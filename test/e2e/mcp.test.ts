/** `clawnode mcp` with its own sandbox, driven by a real MCP client over stdio: the first pattern, mistakes, scopes and the end. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { getDefaultEnvironment, StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { CallToolResultSchema, type CallToolResult } from '@modelcontextprotocol/sdk/types.js';
import { start, type Argv } from '../../src/drivers/exec.ts';
import { openSandbox } from '../../src/sandbox/sandbox.ts';
import { ask } from '../../src/surfaces/cli/demo-requests.ts';
import { clawnode } from '../cli/cli-process.ts';
import { fakeAgent } from '../cli/fake-agent.ts';
import { checkout, eventually, pidNamespaceOf, processesOf } from '../cli/sandbox-fixture.ts';
import { errorOf, textOf } from '../mcp/client.ts';
import { tools } from '../../tools/index.ts';

const never = new AbortController().signal;
const SERVER = "require('node:http').createServer((_, answer) => answer.end(process.argv[1])).listen(8080)";
/** Asks the address in its argument until it is answered, prints the answer and ends. */
const CLIENT = "(async () => { for (;;) try { console.log(await (await fetch(process.argv[1])).text()); return; } catch { await new Promise((r) => setTimeout(r, 50)); } })()";

interface McpProcess {
  readonly client: Client;
  readonly pid: number;
  readonly stderr: () => string;
  readonly call: (name: string, args?: Record<string, unknown>) => Promise<CallToolResult>;
  readonly answer: (name: string, args?: Record<string, unknown>) => Promise<Record<string, unknown>>;
}

async function startMcp(t: TestContext, { args = [], socket }: { args?: string[]; socket?: string } = {}): Promise<McpProcess> {
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [join(checkout, 'bin', 'clawnode.js'), 'mcp', ...args],
    env: { ...getDefaultEnvironment(), ...(socket === undefined ? {} : { CLAWNODE_SOCKET: socket }) },
    stderr: 'pipe',
  });
  let stderr = '';
  transport.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const client = new Client({ name: 'test', version: '1' });
  t.after(() => client.close());
  await client.connect(transport);
  const { pid } = transport;
  assert.ok(pid !== null);
  await client.listTools();
  const call: McpProcess['call'] = async (name, given) =>
    CallToolResultSchema.parse(await client.callTool({ name, ...(given === undefined ? {} : { arguments: given }) }));
  const answer: McpProcess['answer'] = async (name, given) => {
    const result = await call(name, given);
    assert.equal(result.isError, undefined, textOf(result));
    assert.notEqual(result.structuredContent?.['enforced'], false, textOf(result));
    return result.structuredContent ?? assert.fail('no structured content');
  };
  return { client, pid, stderr: () => stderr, call, answer };
}

test('the first pattern through MCP alone: workloads, service, ingress, and what a mistake changes', async (t) => {
  const { client, call, answer, stderr } = await startMcp(t, { args: ['--mode', 'sandbox', '--toolsets', 'all'] });
  const [, ingressUrl = ''] = /ingress is on (\S+)/.exec(stderr()) ?? [];
  assert.match(ingressUrl, /^http:\/\/127\.0\.0\.1:\d+$/, stderr());
  const told = client.getInstructions() ?? '';
  assert.ok(told.startsWith(`You speak for a private sandbox (asked for with --mode sandbox); its ingress is ${ingressUrl}. `), told);
  assert.equal((await client.listTools()).tools.length, tools.length);
  const status = await answer('network_status');
  assert.equal(status['mode'], 'sandbox');
  assert.ok(JSON.stringify(status['ingress']).includes(`"published":"${ingressUrl}"`), JSON.stringify(status['ingress']));

  for (const name of ['web-1', 'web-2']) {
    const run = { name, labels: { app: 'web' }, command: [process.execPath, '-e', SERVER, name], ports: [{ name: 'http', port: 8080 }] };
    assert.match(String((await answer('workload_run', run))['meshIp']), /^10\.200\.1\.\d+$/);
  }

  await t.test('a wrong argument names itself and changes nothing', async () => {
    const before = await answer('service_list');
    const error = errorOf(await call('service_create', { name: 'web', selector: { app: 'web' }, port: 80_000 }));
    assert.deepEqual({ code: error['code'], path: error['path'] }, { code: 'INVALID_ARGUMENT', path: 'port' });
    assert.ok(typeof error['hint'] === 'string' && error['hint'].length > 10);
    const readme = await readFile(join(checkout, 'README.md'), 'utf8');
    assert.ok(readme.includes(JSON.stringify(error, null, 2)), 'README.md shows another error than the agent gives');
    assert.equal(errorOf(await call('service_create', { name: 'web', port: 80, colour: 'red' }))['path'], 'colour');
    assert.equal(errorOf(await call('service_create', { name: 'web', port: 80, ports: [{ port: 0 }] }))['path'], 'ports[0].port');
    assert.equal(errorOf(await call('service_create', { name: 'web', port: 80, selector: { app: 'web' }, dryRun: true }))['code'], 'NOT_SUPPORTED');
    assert.equal(errorOf(await call('service_get', { name: 'web' }))['code'], 'SERVICE_NOT_FOUND');
    assert.match(String(errorOf(await call('service_make', {}))['hint']), /service\.create/);
    assert.deepEqual(await answer('service_list'), before);
  });

  const service = await answer('service_create', { name: 'web', selector: { app: 'web' }, port: 80, targetPort: 'http' });
  assert.equal(service['clusterIp'], '10.201.0.1');
  assert.equal(service['enforced'], true);
  assert.equal(errorOf(await call('service_create', { name: 'web', selector: { app: 'web' }, port: 80 }))['code'], 'SERVICE_EXISTS');

  await t.test('the dotted id is the same tool', async () => {
    assert.deepEqual(await answer('service.endpoints', { name: 'web' }), await answer('service_endpoints', { name: 'web' }));
    assert.equal((await answer('service.endpoints', { name: 'web' }))['total'], 2);
  });

  await t.test('a workload reaches the service through its ClusterIP', async () => {
    await answer('workload_run', { name: 'visitor', command: [process.execPath, '-e', CLIENT, `http://${String(service['clusterIp'])}/`] });
    const { lines } = await eventually(() => answer('workload_logs', { name: 'visitor' }), (seen) => JSON.stringify(seen['lines']) !== '[]');
    assert.match(JSON.stringify(lines), /^\["web-[12]"\]$/);
    await eventually(() => answer('workload_get', { name: 'visitor' }), (seen) => seen['state'] === 'exited' && seen['exitCode'] === 0);
  });

  await t.test('the ingress serves it, and 404 once it is deleted', async () => {
    const target = { url: `${ingressUrl}/some/path`, host: 'www.example.com' };
    const written = await answer('ingress_create', { name: 'web', rules: [{ host: 'www.example.com', path: '/', service: 'web' }] });
    assert.deepEqual(written['urls'], ['http://www.example.com:8443/']);
    assert.match(await ask(target, never), /^web-[12]$/);
    assert.match(JSON.stringify((await answer('ingress_get', { name: 'web' }))['rules']), /"ready":true/);
    await answer('ingress_delete', { name: 'web' });
    await assert.rejects(ask(target, never), /status 404/);
  });

  await answer('workload_stop', { name: 'web-1' });
  assert.equal((await answer('service_endpoints', { name: 'web' }))['total'], 1);
  assert.equal((await answer('service_delete', { name: 'web' }))['deleted'], true);
  assert.equal((await answer('service_list'))['count'], 0);
});

test('the client is told first whether a machine or a sandbox is programmed, and why a sandbox', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'claw-mcp-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const machine = fakeAgent({ mode: 'host' });
  t.after(() => machine.close());
  const socket = join(folder, 'agent.sock');
  machine.listen(socket);
  await once(machine, 'listening');
  for (const args of [[], ['--mode', 'host']]) {
    const { client } = await startMcp(t, { socket, args });
    assert.match(client.getInstructions() ?? '', /^You program node n1\. /);
  }
  const none = join(folder, 'none.sock');
  const { client, stderr } = await startMcp(t, { socket: none });
  const [, ingressUrl = ''] = /ingress is on (\S+)/.exec(stderr()) ?? [];
  const told = client.getInstructions() ?? '';
  assert.ok(told.startsWith('You speak for a private sandbox (no agent of this machine could be used: '), told);
  assert.ok(told.includes(none) && told.includes(`); its ingress is ${ingressUrl}. `), told);
});

test('read-only and toolsets hide tools, are enforced, and leave the refusal in the audit log', async (t) => {
  const sandbox = await openSandbox({}, never);
  t.after(sandbox.close);
  const socket = sandbox.socketPath;
  const reader = await startMcp(t, { args: ['--read-only'], socket });
  assert.ok((await reader.client.listTools()).tools.every(({ annotations }) => annotations?.readOnlyHint === true));
  for (const name of ['service_create', 'service.create']) {
    const error = errorOf(await reader.call(name, { name: 'x', port: 80 }));
    assert.deepEqual({ code: error['code'], path: error['path'] }, { code: 'NOT_ALLOWED', path: 'command' });
    assert.ok(typeof error['hint'] === 'string');
  }
  assert.equal((await reader.answer('service_list'))['count'], 0);

  const narrow = await startMcp(t, { args: ['--toolsets', 'services,network'], socket });
  assert.equal((await narrow.client.listTools()).tools.some(({ name }) => name.startsWith('ingress')), false);
  assert.match(narrow.client.getInstructions() ?? '', /^You speak for a private sandbox that somebody else has opened\..* service_create /);
  assert.doesNotMatch(narrow.client.getInstructions() ?? '', /workload_run|ingress_create/);
  assert.equal(errorOf(await narrow.call('ingress_list', {}))['code'], 'NOT_ALLOWED');
  await narrow.answer('service_create', { name: 'x', port: 80, selector: { app: 'x' } });
  assert.equal((await reader.answer('service_list'))['count'], 1, 'both speak for the same agent');

  const expected = [
    'ingress.list NOT_ALLOWED',
    'service.create NOT_ALLOWED',
    'service.create NOT_ALLOWED',
    'service.create ok',
    'service.list ok',
    'service.list ok',
  ];
  // An answer does not wait for its line in the log.
  const audit = await eventually(
    async () => (await auditLog(socket)).filter(({ surface }) => surface === 'mcp'),
    (seen) => seen.length >= expected.length,
  );
  assert.deepEqual(audit.map(({ command, result }) => `${command} ${result}`).toSorted(), expected);
});

test('when the client goes, the server and the sandbox it opened go too', async (t) => {
  const { client, pid, answer } = await startMcp(t, { args: ['--mode', 'sandbox'] });
  await answer('workload_run', { name: 'web-1', command: [process.execPath, '-e', SERVER, 'web-1'] });
  const own = await pidNamespaceOf(process.pid);
  const namespaces = await eventually(async () => descendantNamespaces(pid), (found) => found.size > 1);
  await client.close();
  for (const namespace of namespaces) {
    if (namespace === own) continue;
    await eventually(() => processesOf(namespace), (left) => left.length === 0);
  }
});

test('a sandbox whose agent can not start ends the server with the reason, also when the tools were listed before', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'claw-mcp-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const config = join(folder, 'overlap.yaml');
  await writeFile(config, 'ranges:\n  clusterIp: 10.200.0.0/16\n');
  const child = start([process.execPath, join(checkout, 'bin', 'clawnode.js'), 'mcp', '--mode', 'sandbox', '--config', config], {
    stdio: ['pipe', 'ignore', 'pipe'],
    env: { ...process.env, TMPDIR: folder },
  });
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  assert.deepEqual(await once(child, 'close'), [1, null], stderr);
  assert.match(stderr, /overlaps our own range workload.*RANGE_OVERLAP at ranges\.clusterIp/);
  assert.deepEqual(await readdir(folder), ['overlap.yaml']);
});

test('calls that are piped in before the agent is ready are answered', async () => {
  const messages = [
    { id: 1, method: 'initialize', params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'test', version: '1' } } },
    { method: 'notifications/initialized' },
    { id: 2, method: 'tools/call', params: { name: 'service_list' } },
  ];
  const { exitCode, stdout } = await clawnode(['mcp', '--mode', 'sandbox'], { input: messages.map((message) => `${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`).join('') });
  assert.equal(exitCode, 0);
  assert.match(stdout, /"structuredContent":\{"count":0,"services":\[\]\}.*"id":2/);
});

test('a client that is killed while it waits for an answer leaves nothing behind', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'claw-mcp-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const argv: Argv = [process.execPath, join(checkout, 'bin', 'clawnode.js'), 'mcp', '--mode', 'sandbox'];
  const child = start(argv, { stdio: ['pipe', 'pipe', 'ignore'], env: { ...process.env, TMPDIR: folder } });
  const ended = once(child, 'exit');
  const send = (message: object): void => void child.stdin?.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
  const clientInfo = { name: 'test', version: '1' };
  send({ id: 1, method: 'initialize', params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo } });
  await once(child.stdout ?? assert.fail(), 'data');
  child.stdout?.destroy();
  send({ method: 'notifications/initialized' });
  send({ id: 2, method: 'tools/call', params: { name: 'service_list' } });
  assert.deepEqual(await ended, [0, null]);
  assert.deepEqual(await readdir(folder), []);
});

/** The pid namespaces of a process and all its descendants. */
async function descendantNamespaces(root: number): Promise<Set<string>> {
  const parents = new Map<number, number>();
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const stat = await readFile(`/proc/${entry}/stat`, 'utf8').catch(() => '');
    parents.set(Number(entry), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]));
  }
  const descends = (pid: number): boolean => pid === root || (pid > 1 && parents.has(pid) && descends(parents.get(pid) ?? 0));
  const namespaces = await Promise.all([...parents.keys()].filter(descends).map((pid) => pidNamespaceOf(pid).catch(() => undefined)));
  return new Set(namespaces.filter((namespace) => namespace !== undefined));
}

async function auditLog(socketPath: string): Promise<{ surface: string; command: string; result: string }[]> {
  const shared = join(socketPath, '..');
  const file = (await readdir(shared, { recursive: true })).find((name) => name.endsWith('audit.log'));
  assert.ok(file !== undefined, `no audit log under ${shared}`);
  const lines = (await readFile(join(shared, file), 'utf8')).trim().split('\n');
  return lines.map((line): { surface: string; command: string; result: string } => JSON.parse(line));
}
