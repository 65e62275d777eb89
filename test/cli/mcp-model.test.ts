/** `clawnode` in model mode as processes: without Linux, without rights, over stdio, a socket and HTTP. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, test, type TestContext } from 'node:test';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { CallToolResultSchema } from '@modelcontextprotocol/sdk/types.js';
import { start } from '../../src/drivers/exec.ts';
import { clawnode, launcher } from './cli-process.ts';
import { checkout } from './sandbox-fixture.ts';

const folder = await mkdtemp(join(tmpdir(), 'claw-mcp-model-'));
after(() => rm(folder, { recursive: true, force: true }));
const socket = join(folder, 'none.sock');
const temporary = join(folder, 'tmp');
await mkdir(temporary);

interface Options {
  readonly node?: readonly string[];
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

async function connectStdio(t: TestContext, { node = [], args = [], env = {} }: Options): Promise<Client> {
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [...node, launcher, 'mcp', ...args],
    // No program is found: whatever is done, is done without one.
    env: { PATH: '/nonexistent', HOME: folder, TMPDIR: temporary, CLAWNODE_SOCKET: socket, ...env },
    stderr: 'ignore',
  });
  const client = new Client({ name: 'test', version: '1' });
  t.after(() => client.close());
  await client.connect(transport);
  return client;
}

async function call(client: Client, name: string, args: Record<string, unknown> = {}): Promise<Record<string, unknown>> {
  const result = CallToolResultSchema.parse(await client.callTool({ name, arguments: args }));
  assert.equal(result.isError, undefined, JSON.stringify(result.content));
  return result.structuredContent ?? assert.fail('no structured content');
}

/** The first pattern; nothing of it is in force. */
async function rehearse(client: Client): Promise<void> {
  assert.equal((await call(client, 'network_status'))['mode'], 'model');
  const answers = [
    await call(client, 'workload_run', { name: 'web-1', labels: { app: 'web' }, command: ['x'], ports: [{ name: 'http', port: 8080 }] }),
    await call(client, 'service_create', { name: 'web', selector: { app: 'web' }, port: 80, targetPort: 'http' }),
    await call(client, 'ingress_create', { name: 'web', rules: [{ host: 'www.example.com', service: 'web' }] }),
  ];
  for (const { enforced, reason } of answers) {
    assert.equal(enforced, false);
    assert.match(String(reason), /model mode/);
  }
  const { total, healthy } = await call(client, 'service_endpoints', { name: 'web' });
  assert.deepEqual({ total, healthy }, { total: 1, healthy: 0 });
}

test('it starts no program and reads no file but its own: Node itself forbids both here', async (t) => {
  const allowed = [`--allow-fs-read=${checkout}/`, `--allow-fs-read=${temporary}/`, `--allow-fs-read=${temporary}`, `--allow-fs-write=${temporary}`];
  const client = await connectStdio(t, { node: ['--permission', ...allowed], args: ['--mode', 'model'] });
  assert.match(client.getInstructions() ?? '', /^You speak for a model: .* nothing is enforced\. Why: asked for with --mode model\. /);
  await rehearse(client);
  await client.close();
  assert.deepEqual(await readdir(temporary), [], 'its state ends with its session');
});

test('where there is no Linux, `clawnode mcp` is the model and says why', async (t) => {
  const elsewhere = "data:text/javascript,Object.defineProperty(process, 'platform', { value: 'darwin' })";
  const client = await connectStdio(t, { node: ['--import', elsewhere] });
  const told = client.getInstructions() ?? '';
  assert.match(told, /^You speak for a model: .* Why: no agent of this machine could be used: .*; this is no Linux \(darwin\), so there can be no sandbox\. /);
  assert.ok(told.includes(socket), told);
  await rehearse(client);
});

test('`--mode host` starts nothing: without an agent it fails', async () => {
  const { exitCode, stdout, stderr } = await clawnode(['mcp', '--mode', 'host'], { env: { CLAWNODE_SOCKET: socket } });
  assert.deepEqual({ exitCode, stdout }, { exitCode: 1, stdout: '' });
  assert.match(stderr, /AGENT_UNREACHABLE/);
});

test('`up --mode model` serves every client of an agent on its socket', async (t) => {
  const path = join(folder, 'model.sock');
  const model = start([process.execPath, launcher, 'up', '--mode', 'model', '--socket', path, '--node', 'n1'], { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = once(model, 'exit');
  t.after(() => model.kill('SIGKILL'));
  const [line] = await once(createInterface({ input: model.stderr ?? assert.fail() }), 'line');
  assert.match(String(line), /node n1 is ready in model mode on .*model\.sock.*nothing is enforced$/);

  const env = { CLAWNODE_SOCKET: path };
  const created = await clawnode(['invoke', 'service.create', '{"name":"shop","port":80}'], { env });
  assert.equal(created.exitCode, 0, created.stderr);
  assert.match(created.stdout, /"enforced":\s*false.*model mode/s);
  const status = await clawnode(['status'], { env });
  assert.equal(status.exitCode, 1);
  assert.match(status.stdout, /mode +model\n[\s\S]*kernel +NOT in sync: model mode/);

  const client = await connectStdio(t, { env });
  assert.match(client.getInstructions() ?? '', /^You speak for a model: .*nothing is enforced\. Its agent answers on /);
  assert.equal((await call(client, 'service_list'))['count'], 1, 'both speak for the same model');
  const host = await clawnode(['mcp', '--mode', 'host'], { env });
  assert.match(host.stderr, /runs in model mode, not in host mode.*AGENT_UNREACHABLE/);
  const second = await clawnode(['up', '--mode', 'model', '--socket', path]);
  assert.match(second.stderr, /AGENT_ALREADY_RUNNING/);

  model.kill('SIGTERM');
  assert.deepEqual(await ended, [0, null]);
  await assert.rejects(stat(path), { code: 'ENOENT' });
});

test('`up --mode model` takes no place of its own and no state, and there are but two modes', async () => {
  const refused = async (args: readonly string[], message: RegExp): Promise<void> => {
    const { exitCode, stderr } = await clawnode(['up', ...args], { env: { CLAWNODE_SOCKET: '' } });
    assert.equal(exitCode, 2, stderr);
    assert.match(stderr, message);
  };
  await refused(['--mode', 'model'], /--socket PATH or CLAWNODE_SOCKET/);
  await refused(['--mode', 'model', '--socket', socket, '--state-dir', folder], /--state-dir is not for --mode model/);
  await refused(['--mode', 'sandbox'], /--mode sandbox is none of host, model/);
});

test('over HTTP: the token is in a file that is only its owner\'s, and nowhere else', async (t) => {
  const tokenFile = join(folder, 'token');
  const server = start([process.execPath, launcher, 'mcp', '--http', '--port', '0', '--mode', 'model', '--token-file', tokenFile], { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = once(server, 'exit');
  t.after(() => server.kill('SIGKILL'));
  let stdout = '';
  server.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  let stderr = '';
  for await (const line of createInterface({ input: server.stderr ?? assert.fail() })) {
    stderr += `${line}\n`;
    if (line.includes('serving')) break;
  }
  const [, url = '', file] = /serving (http:\/\/127\.0\.0\.1:\d+\/mcp); its bearer token is in (.*)$/m.exec(stderr) ?? [];
  assert.equal(file, tokenFile, stderr);
  assert.equal((await stat(tokenFile)).mode & 0o777, 0o600);
  const token = (await readFile(tokenFile, 'utf8')).trim();

  const refused = await fetch(url, { method: 'POST', body: '{}', headers: { 'content-type': 'application/json' } });
  assert.equal(refused.status, 401);
  assert.match(refused.headers.get('www-authenticate') ?? '', /^Bearer /);
  const client = new Client({ name: 'test', version: '1' });
  t.after(() => client.close());
  await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers: { authorization: `Bearer ${token}` } } }));
  assert.match(client.getInstructions() ?? '', /^You speak for a model/);
  await rehearse(client);
  const names = Array.from({ length: 200 }, (_, index) => `s-${index}`);
  const answers = await Promise.all(names.map((name) => call(client, 'service_create', { name, port: 80 })));
  assert.equal(new Set(answers.map(({ clusterIp }) => clusterIp)).size, 200);

  server.kill('SIGTERM');
  assert.deepEqual(await ended, [0, null]);
  assert.ok(!stderr.includes(token) && !stdout.includes(token));
  assert.equal(stdout, '');
});

test('arguments that do not fit together are wrong usage', async () => {
  for (const [args, message] of [
    [['--port', '1'], /--port and --token-file belong to --http/],
    [['--token-file', 'x'], /belong to --http/],
    [['--http', '--port', '70000'], /--port 70000 is not a port/],
    [['--http', '--port', 'x'], /--port x is not a port/],
    [['--mode', 'none'], /none of auto, host, sandbox, model/],
  ] as const) {
    const { exitCode, stderr } = await clawnode(['mcp', ...args]);
    assert.equal(exitCode, 2, stderr);
    assert.match(stderr, message);
  }
});
