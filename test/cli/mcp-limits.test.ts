/** What a session is limited to is refused by the agent on every way in: real MCP clients on stdio and HTTP, and the agent's own socket. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { ChildProcess } from 'node:child_process';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { CallToolResultSchema } from '@modelcontextprotocol/sdk/types.js';
import { start } from '../../src/drivers/exec.ts';
import { toClawError } from '../../src/errors.ts';
import { connectAgent, type ClientOptions } from '../../src/surfaces/agent-client.ts';
import type { Tool } from '../../tools/define.ts';
import { tools } from '../../tools/index.ts';
import { errorOf } from '../mcp/client.ts';
import { plainRequests } from '../mcp/plain-requests.ts';
import { clawnode, launcher } from './cli-process.ts';

const never = new AbortController().signal;
const folder = await mkdtemp(join(tmpdir(), 'claw-mcp-limits-'));
const temporary = join(folder, 'tmp');
await mkdir(temporary);
const socket = join(folder, 'model.sock');
const env = { CLAWNODE_SOCKET: socket, XDG_CONFIG_HOME: folder };
const children: ChildProcess[] = [];
const clients: Client[] = [];
after(async () => {
  await Promise.all(clients.map((client) => client.close()));
  await Promise.all(
    children.map(async (child) => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGTERM');
      await once(child, 'exit');
    }),
  );
  await rm(folder, { recursive: true, force: true });
});

/** Every object that a request of the table could change or remove, so that a call that is let through is seen. */
before(async () => {
  const model = start([process.execPath, launcher, 'up', '--mode', 'model', '--socket', socket], { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, TMPDIR: temporary } });
  children.push(model);
  await lineWith(model, 'is ready');
  const { invoke } = connectAgent(socket);
  for (const { tool, args, refusedByModel } of plainRequests) {
    if (refusedByModel === undefined && /_(run|create|apply)$/.test(tool)) await invoke(tool, args, never);
  }
});

const LIMITS = [
  { name: 'read-only', args: ['--toolsets', 'all', '--read-only'], limits: { readOnly: true }, hides: ({ effect }: Tool) => effect !== 'read' },
  { name: 'no-destructive', args: ['--toolsets', 'all', '--no-destructive'], limits: { noDestructive: true }, hides: ({ command }: Tool) => /\.(update|delete|stop|detach|apply)$/.test(command) },
  { name: 'the default set', args: [], limits: { toolsets: ['default'] }, hides: ({ inDefault }: Tool) => inDefault !== true },
  {
    name: 'read-only and two toolsets',
    args: ['--read-only', '--toolsets', 'default,policy'],
    limits: { readOnly: true, toolsets: ['default', 'policy'] },
    hides: ({ effect, toolset, inDefault }: Tool) => effect !== 'read' || (toolset !== 'policy' && inDefault !== true),
  },
] as const;

type Call = (name: string, args: Readonly<Record<string, unknown>>) => Promise<Record<string, unknown>>;

for (const { name, args, limits, hides } of LIMITS) {
  test(`${name}: what is hidden is refused over stdio, HTTP and the socket, by both names, is written down, and changes nothing`, async () => {
    const hidden = tools.filter(hides);
    assert.ok(hidden.length > 5 && hidden.length < tools.length);
    const unchanged = await everything();
    const [stdio, http] = await Promise.all([overStdio(args), overHttp(args)]);
    for (const client of [stdio, http]) {
      const listed = (await client.listTools()).tools.map((tool) => tool.name);
      assert.deepEqual(listed, tools.filter((tool) => !hides(tool)).map(({ toolName }) => toolName));
    }
    const written = (await refusals()).length;
    const ways: readonly Call[] = [refusedTo(stdio), refusedTo(http), refusedOnSocket(limits)];
    for (const call of ways) {
      for (const { command, toolName } of hidden) {
        const request = plainRequests.find(({ tool }) => tool === toolName) ?? assert.fail(toolName);
        for (const alias of [toolName, command]) {
          const error = await call(alias, request.args);
          assert.deepEqual({ code: error['code'], path: error['path'] }, { code: 'NOT_ALLOWED', path: 'command' }, `${alias}: ${JSON.stringify(error)}`);
          assert.ok(String(error['message']).startsWith(`${command} `), String(error['message']));
          assert.match(String(error['hint']), /^The operator has limited this session, and can start it with.*: tell the person if you need it\.$/);
        }
      }
    }
    const expected = written + ways.length * hidden.length * 2;
    assert.equal((await until(refusals, (lines) => lines.length >= expected)).length, expected);
    assert.deepEqual(await everything(), unchanged);
  });
}

test('the hint names the options that would help, all of them', async () => {
  const call = refusedOnSocket({ readOnly: true, noDestructive: true, toolsets: ['default'] });
  const { message, hint } = await call('service.update', { name: 'web', port: 81 });
  assert.equal(
    message,
    'service.update changes something, while this session is read-only, and it overwrites what is there, while this session only reads and adds, and it belongs to toolset services, while this session has default',
  );
  assert.equal(hint, 'The operator has limited this session, and can start it without --read-only and without --no-destructive and with --toolsets default,services: tell the person if you need it.');
});

test('a limit that can not be read is refused and not taken for none', async () => {
  const unchanged = await everything();
  for (const [limits, path] of [
    [{ readOnly: 'true' }, 'readOnly'],
    [{ noDestructive: 1 }, 'noDestructive'],
    [{ toolsets: 'services' }, 'toolsets'],
    [{ toolsets: ['services', 7] }, 'toolsets.1'],
    [{ toolsets: null }, 'toolsets'],
  ] as const) {
    const body = JSON.stringify({ command: 'service.delete', params: { name: 'web' }, ...limits });
    const { stdout } = await curl(body);
    const error = Object.fromEntries(Object.entries(JSON.parse(stdout)));
    assert.deepEqual({ code: error['code'], path: error['path'] }, { code: 'INVALID_ARGUMENT', path }, stdout);
  }
  assert.deepEqual(await everything(), unchanged);
});

test('toolsets: what is not built says so, what is unknown is told the known, and no tools are the outcome of neither', async () => {
  const later = await clawnode(['mcp', '--toolsets', 'services,mesh'], { env });
  assert.equal(later.exitCode, 1);
  assert.match(later.stderr, /the toolset mesh is not built yet \(NOT_SUPPORTED at toolsets\)\n {2}This release serves one node\./);
  for (const wrong of ['service', '', 'services,', 'Default']) {
    const { exitCode, stderr } = await clawnode(['mcp', '--toolsets', wrong], { env });
    assert.equal(exitCode, 2, stderr);
    assert.match(stderr, /--toolsets: ".*" is none of default, all, services, ingress, policy, workloads, namespaces, network;/);
  }
  const call = refusedOnSocket({ toolsets: ['mesh'] });
  assert.equal((await call('service.list', {}))['code'], 'NOT_ALLOWED');
});

/** All that is stored and runs, and the revision that every change raises. */
async function everything(): Promise<unknown[]> {
  const { invoke } = connectAgent(socket);
  const { store } = fields(await invoke('network.status', {}, never));
  const { manifest } = fields(await invoke('network.export', {}, never));
  const { workloads } = fields(await invoke('workload.list', { limit: 500 }, never));
  assert.match(String(manifest), /kind: Service/);
  return [store, manifest, workloads];
}

function fields(answer: unknown): Record<string, unknown> {
  return typeof answer === 'object' && answer !== null ? Object.fromEntries(Object.entries(answer)) : {};
}

async function refusals(): Promise<string[]> {
  const file = (await readdir(temporary, { recursive: true })).find((name) => name.endsWith('audit.log')) ?? assert.fail('there is no audit log');
  return (await readFile(join(temporary, file), 'utf8')).split('\n').filter((line) => line.includes('"result":"NOT_ALLOWED"'));
}

async function overStdio(args: readonly string[]): Promise<Client> {
  const client = new Client({ name: 'test', version: '1' });
  clients.push(client);
  await client.connect(new StdioClientTransport({ command: process.execPath, args: [launcher, 'mcp', ...args], env: { ...env, PATH: process.env['PATH'] ?? '' }, stderr: 'ignore' }));
  return client;
}

async function overHttp(args: readonly string[]): Promise<Client> {
  const server = start([process.execPath, launcher, 'mcp', '--http', '--port', '0', ...args], { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, ...env } });
  children.push(server);
  const [, url = '', file = ''] = /serving (\S+); its bearer token is in (.*)$/.exec(await lineWith(server, 'serving')) ?? [];
  const authorization = `Bearer ${(await readFile(file, 'utf8')).trim()}`;
  const client = new Client({ name: 'test', version: '1' });
  clients.push(client);
  await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers: { authorization } } }));
  return client;
}

function refusedTo(client: Client): Call {
  return async (name, args) => errorOf(CallToolResultSchema.parse(await client.callTool({ name, arguments: { ...args } })));
}

function refusedOnSocket(limits: Pick<ClientOptions, 'readOnly' | 'noDestructive' | 'toolsets'>): Call {
  const { invoke } = connectAgent(socket, limits);
  return (name, args) =>
    invoke(name, args, never).then(
      () => assert.fail(`${name} was carried out`),
      (error: unknown) => ({ ...toClawError(error).toJSON() }),
    );
}

async function curl(body: string): Promise<{ stdout: string }> {
  const child = start(['curl', '--silent', '--unix-socket', socket, '--data', body, 'http://agent/v1/invoke'], { stdio: ['ignore', 'pipe', 'ignore'] });
  let stdout = '';
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => (stdout += chunk));
  await once(child, 'close');
  return { stdout };
}

async function lineWith(child: ChildProcess, text: string): Promise<string> {
  for await (const line of createInterface({ input: child.stderr ?? assert.fail() })) if (line.includes(text)) return line;
  return assert.fail(`it ended without "${text}"`);
}

async function until<Value>(look: () => Promise<Value>, done: (value: Value) => boolean): Promise<Value> {
  const giveUpAt = performance.now() + 10_000;
  for (;;) {
    const value = await look();
    if (done(value) || performance.now() > giveUpAt) return value;
    await delay(50);
  }
}
