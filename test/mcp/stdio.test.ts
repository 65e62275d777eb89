/** The surface as a process on stdio: the wire holds MCP and nothing else, and the process ends with its client. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { performance } from 'node:perf_hooks';
import { test } from 'node:test';
import { text } from 'node:stream/consumers';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { start } from '../../src/drivers/exec.ts';
import { tools } from '../../tools/index.ts';

const SERVER = new URL('fixtures/scripted-server.ts', import.meta.url).pathname;

const HELLO = [
  { jsonrpc: '2.0', id: 1, method: 'initialize', params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 't', version: '1' } } },
  { jsonrpc: '2.0', method: 'notifications/initialized' },
];

test('a client over stdio lists and calls tools', async () => {
  const transport = new StdioClientTransport({ command: process.execPath, args: [SERVER], stderr: 'ignore' });
  const client = new Client({ name: 'test', version: '1' });
  await client.connect(transport);
  try {
    assert.equal((await client.listTools()).tools.length, tools.length);
    const result = await client.callTool({ name: 'service_get', arguments: { name: 'web' } });
    assert.equal(result.isError, undefined);
    assert.deepEqual(client.getServerVersion()?.name, 'clawbernetes-networking');
  } finally {
    await client.close();
  }
});

test('piped requests are all answered before the process ends, and stdout holds JSON-RPC alone', async () => {
  const { exitCode, messages, stderr } = await pipe([
    ...HELLO,
    { jsonrpc: '2.0', id: 2, method: 'tools/call', params: { name: 'workload_logs', arguments: { name: 'web' } } },
    { jsonrpc: '2.0', id: 3, method: 'tools/call', params: { name: 'nonsense' } },
    { jsonrpc: '2.0', id: 4, method: 'ping' },
  ]);
  assert.equal(exitCode, 0, stderr);
  assert.deepEqual(messages.map((message) => message.id).toSorted((a, b) => a - b), [1, 2, 3, 4]);
  assert.ok(messages.every((message) => message.jsonrpc === '2.0'));
});

test('a call that hangs does not keep the process when its client has gone', async () => {
  const startedAt = performance.now();
  const { exitCode, stderr } = await pipe([
    ...HELLO,
    { jsonrpc: '2.0', id: 2, method: 'tools/call', params: { name: 'workload_run', arguments: { name: 'web' } } },
  ]);
  assert.equal(exitCode, 0, stderr);
  assert.ok(performance.now() - startedAt < 20_000);
});

test('a broken line is survived', async () => {
  const child = start([process.execPath, SERVER], { stdio: 'pipe' });
  const output = text(child.stdout ?? assert.fail());
  child.stdin?.write('this is not JSON\n{"jsonrpc":"2.0"}\n');
  child.stdin?.end(HELLO.map((message) => `${JSON.stringify(message)}\n`).join(''));
  await once(child, 'close');
  assert.match(await output, /"serverInfo"/);
});

test('a line longer than any message ends it, and the reason is told', async () => {
  const child = start([process.execPath, SERVER], { stdio: 'pipe' });
  const [output, errors] = [text(child.stdout ?? assert.fail()), text(child.stderr ?? assert.fail())];
  child.stdin?.on('error', () => undefined);
  child.stdin?.write(`${JSON.stringify(HELLO[0])}\n`);
  child.stdin?.write('a'.repeat(12 * 1024 * 1024));
  const [exitCode] = await once(child, 'close');
  assert.equal(exitCode, 0);
  assert.match(await output, /"serverInfo"/);
  assert.match(await errors, /^told: .*maximum size/m);
});

test('SIGTERM ends it cleanly', async () => {
  const child = start([process.execPath, SERVER], { stdio: 'pipe' });
  child.stdin?.write(`${JSON.stringify(HELLO[0])}\n`);
  await once(child.stdout ?? assert.fail(), 'data');
  child.kill('SIGTERM');
  const [exitCode] = await once(child, 'close');
  assert.equal(exitCode, 0);
});

interface Message {
  readonly jsonrpc: string;
  readonly id: number;
}

async function pipe(requests: readonly object[]): Promise<{ exitCode: unknown; messages: Message[]; stderr: string }> {
  const child = start([process.execPath, SERVER], { stdio: 'pipe' });
  const output = text(child.stdout ?? assert.fail());
  const errors = text(child.stderr ?? assert.fail());
  child.stdin?.end(requests.map((request) => `${JSON.stringify(request)}\n`).join(''));
  const [exitCode] = await once(child, 'close');
  const messages = (await output).trim().split('\n').map((line): Message => JSON.parse(line));
  return { exitCode, messages, stderr: await errors };
}
