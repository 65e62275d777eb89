/** `clawnode mcp` in front of a real agent over HTTP, and the model where this machine gives no sandbox, driven by the real client. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { getDefaultEnvironment, StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { McpError } from '@modelcontextprotocol/sdk/types.js';
import type { Argv } from '../../src/drivers/exec.ts';
import { launcher } from '../cli/cli-process.ts';
import { asOrdinaryUser } from '../cli/sandbox-fixture.ts';
import { errorOf } from '../mcp/client.ts';
import { call, serveHttp } from './fixture-mcp.ts';

test('200 changes at once over HTTP are all in the kernel', async (t) => {
  const connect = (await serveHttp(t, { args: ['--mode', 'sandbox'] })).connect;
  const clients = await Promise.all([connect(), connect(), connect(), connect()]);
  t.after(() => Promise.all(clients.map((client) => client.close())));
  const [client] = clients;
  assert.match(client.getInstructions() ?? '', /^You speak for a private sandbox \(asked for with --mode sandbox\); /);
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, index) => call(clients[index % 4] ?? client, 'service_create', { name: `s-${index}`, port: 80, endpoints: [{ ip: '192.0.2.1' }] })),
  );
  assert.deepEqual(answers.filter(({ isError, structuredContent }) => isError === true || structuredContent?.['enforced'] !== true), []);
  assert.equal(new Set(answers.map(({ structuredContent }) => structuredContent?.['clusterIp'])).size, 200);

  const { contents } = await client.readResource({ uri: 'network://services' });
  const [content] = contents;
  assert.ok(content !== undefined && 'text' in content);
  assert.match(content.text, /"count": 200,/);
  const status = await client.readResource({ uri: 'network://status' });
  assert.match(JSON.stringify(status), /\\"mode\\": \\"sandbox\\"/);
});

test('what a session may not call it may not read either', async (t) => {
  const connect = (await serveHttp(t, { args: ['--mode', 'sandbox', '--read-only', '--toolsets', 'ingress'] })).connect;
  const client = await connect();
  t.after(() => client.close());
  assert.deepEqual((await client.listResources()).resources, []);
  for (const uri of ['network://status', 'network://services', 'network://services/default/web']) {
    await assert.rejects(client.readResource({ uri }), (error) => error instanceof McpError && /NOT_ALLOWED/.test(JSON.stringify(error.data)));
  }
  assert.equal(errorOf(await call(client, 'ingress_create', { name: 'x', rules: [] }))['code'], 'NOT_ALLOWED');
  assert.equal(errorOf(await call(client, 'service_list'))['code'], 'NOT_ALLOWED');
  assert.equal((await call(client, 'ingress_list')).isError, undefined);
});

/** A client of `clawnode mcp` started by this argv, without an agent to speak for. */
async function connectStdio(t: TestContext, [command, ...args]: Argv): Promise<Client> {
  const client = new Client({ name: 'test', version: '1' });
  t.after(() => client.close());
  const env = { ...getDefaultEnvironment(), HOME: '/nonexistent', CLAWNODE_SOCKET: '/nonexistent/agent.sock' };
  await client.connect(new StdioClientTransport({ command, args, env, stderr: 'ignore' }));
  return client;
}

test('where user namespaces are off, `clawnode mcp` is the model and names the setting', async (t) => {
  const off = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"';
  const client = await connectStdio(t, ['unshare', '--user', '--map-root-user', 'sh', '-c', off, 'sh', process.execPath, launcher, 'mcp']);
  const told = client.getInstructions() ?? '';
  assert.match(told, /^You speak for a model: .* Why: no agent of this machine could be used: .*; no sandbox: .*user\.max_user_namespaces = 0\. /);
  const created = await call(client, 'service_create', { name: 'web', port: 80 });
  assert.equal(created.structuredContent?.['enforced'], false);
  assert.match(String(created.structuredContent?.['reason']), /model mode/);
});

test('an ordinary user has the model, on stdio as anyone', async (t) => {
  const client = await connectStdio(t, asOrdinaryUser([process.execPath, launcher, 'mcp', '--mode', 'model']));
  assert.equal((await call(client, 'network_status')).structuredContent?.['mode'], 'model');
  assert.equal((await call(client, 'workload_run', { name: 'web', command: ['x'] })).structuredContent?.['meshIp'], '10.200.1.2');
});

test('the prompt of the first pattern, followed word by word, publishes a service', async (t) => {
  const connect = (await serveHttp(t, { args: ['--mode', 'sandbox'] })).connect;
  const client = await connect();
  t.after(() => client.close());
  const { messages } = await client.getPrompt({ name: 'expose_web_service', arguments: { name: 'web', host: 'www.example.com', replicas: '2' } });
  const text = messages[0]?.content.type === 'text' ? messages[0].content.text : assert.fail();
  const SERVER = "require('node:http').createServer((_, answer) => answer.end('hello')).listen(8080)";
  for (const [, tool = '', json = ''] of text.matchAll(/^- (\w+) (\{.*\})$/gm)) {
    const params: Record<string, unknown> = JSON.parse(json);
    const result = await call(client, tool, 'command' in params ? { ...params, command: [process.execPath, '-e', SERVER] } : params);
    assert.equal(result.structuredContent?.['enforced'], true, JSON.stringify(result.content));
  }
  assert.equal((await call(client, 'service_endpoints', { name: 'web' })).structuredContent?.['healthy'], 2);
  assert.match(JSON.stringify((await call(client, 'ingress_list')).structuredContent), /"ready":true/);
});
