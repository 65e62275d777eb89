/** The inspector of MCP, as its command line, against `clawnode mcp`: it lists and calls every tool, over HTTP and on stdio. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { before, test, type TestContext } from 'node:test';
import { z } from 'zod';
import type { Argv } from '../../src/drivers/exec.ts';
import { openSandbox } from '../../src/sandbox/sandbox.ts';
import { tools } from '../../tools/index.ts';
import { launcher } from '../cli/cli-process.ts';
import { runInside } from '../cli/sandbox-fixture.ts';
import { serveHttp } from '../e2e/fixture-mcp.ts';
import { installedPackage, npmEnvironment, runToEnd, type Outcome } from './npm-cache.ts';

const VERSION = '2.12.0';
const CALL_TIMEOUT_MS = 60_000;
/** What the inspector ends with when a tool answered with an error. */
const TOOL_ERROR = 5;
const never = new AbortController().signal;

const SERVER = "require('node:http').createServer((_, answer) => answer.end('hello')).listen(8080, '0.0.0.0')";
const NAMESPACE = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'team-b' } };
const rule = (app: string) => ({ port: 8080, protocol: 'tcp', from: { selector: { app } } });
const reach = { from: 'default/web-2', to: 'default/web-1', port: 8080 };

/** Every tool with arguments that work, in an order that works. */
const CALLS: readonly (readonly [string, Record<string, unknown>])[] = [
  ['network_status', {}],
  ['namespace_create', { name: 'team-a', labels: { tier: 'gold' } }],
  ['namespace_update', { name: 'team-a', labels: { tier: 'silver' } }],
  ['namespace_list', {}],
  ['namespace_delete', { name: 'team-a' }],
  ['workload_run', { name: 'web-1', labels: { app: 'web' }, command: [process.execPath, '-e', SERVER], ports: [{ name: 'http', port: 8080 }] }],
  ['workload_run', { name: 'web-2', labels: { app: 'api' }, command: [process.execPath, '-e', SERVER] }],
  ['workload_get', { name: 'web-1' }],
  ['workload_list', {}],
  ['workload_logs', { name: 'web-1' }],
  ['workload_update', { name: 'web-2', labels: { app: 'web', version: '2' } }],
  ['service_create', { name: 'web', selector: { app: 'web' }, port: 80, targetPort: 8080 }],
  ['service_get', { name: 'web' }],
  ['service_list', {}],
  ['service_endpoints', { name: 'web' }],
  ['service_update', { name: 'web', sessionAffinity: { type: 'clientIP', timeoutSeconds: 60 } }],
  ['ingress_create', { name: 'web', rules: [{ host: 'www.example.com', path: '/', service: 'web' }] }],
  ['ingress_get', { name: 'web' }],
  ['ingress_list', {}],
  ['ingress_update', { name: 'web', rules: [{ host: 'www.example.com', path: '/v2', service: 'web' }] }],
  ['network_policy_create', { name: 'web', selector: { app: 'web' }, ingress: [rule('web')] }],
  ['network_policy_get', { name: 'web' }],
  ['network_policy_list', {}],
  ['network_policy_update', { name: 'web', ingress: [rule('web'), rule('api')] }],
  ['network_explain', reach],
  ['network_probe', reach],
  ['network_simulate', { workloads: [{ namespace: 'default', name: 'db', labels: { app: 'db' } }], policies: [{ name: 'db', selector: { app: 'db' }, ingress: [] }] }],
  ['network_flows', { limit: 5 }],
  ['network_apply', { manifest: JSON.stringify(NAMESPACE) }],
  ['network_export', {}],
  ['network_policy_delete', { name: 'web' }],
  ['ingress_delete', { name: 'web' }],
  ['service_delete', { name: 'web' }],
  ['workload_stop', { name: 'web-1' }],
  ['workload_attach', { name: 'attached', netns: '/run/netns/somebody' }],
  ['workload_detach', { name: 'attached' }],
];

const listed = z.object({ result: z.object({ tools: z.array(z.object({ name: z.string() })) }) });
const called = z.object({ result: z.object({ content: z.array(z.object({ type: z.literal('text'), text: z.string() })), isError: z.literal(true).optional() }) });

let program = '';
let home = '';

before(async () => {
  const directory = await installedPackage({ name: '@modelcontextprotocol/inspector', version: VERSION, without: 'nothing is known of what it makes of our tools' });
  program = join(directory, 'node_modules', '@modelcontextprotocol', 'inspector', 'clients', 'launcher', 'build', 'index.js');
});

/** What the inspector says of a server, which `target` names as its command line does. */
function inspector(target: readonly string[], env: Record<string, string> = {}) {
  return (method: string, args: readonly string[] = []): Promise<Outcome> => {
    const argv: Argv = [process.execPath, program, '--cli', '--method', method, ...args, '--format', 'json', ...target];
    return runToEnd(argv, { env: { ...npmEnvironment(), HOME: home, ...env }, timeoutMs: CALL_TIMEOUT_MS });
  };
}

async function ownHome(t: TestContext): Promise<void> {
  home = await mkdtemp('/tmp/claw-inspector-');
  t.after(() => rm(home, { recursive: true, force: true }));
}

async function list(inspect: ReturnType<typeof inspector>): Promise<string[]> {
  const { exitCode, stdout, stderr } = await inspect('tools/list', ['--strict']);
  assert.equal(exitCode, 0, stderr);
  assert.match(stderr, /^0 errors, /m);
  return listed.parse(JSON.parse(stdout)).result.tools.map(({ name }) => name);
}

async function call(inspect: ReturnType<typeof inspector>, tool: string, params: Record<string, unknown>): Promise<{ exitCode: number | null; text: string }> {
  const { exitCode, stdout, stderr } = await inspect('tools/call', ['--tool-name', tool, '--tool-args-json', JSON.stringify(params)]);
  assert.ok(stdout !== '', `${tool}: ${stderr}`);
  const { result } = called.parse(JSON.parse(stdout));
  assert.equal(result.isError === true, exitCode === TOOL_ERROR, tool);
  return { exitCode, text: result.content.map(({ text }) => text).join('\n') };
}

test('over HTTP it lists and calls every tool', { timeout: 10 * 60_000 }, async (t) => {
  await ownHome(t);
  const sandbox = await openSandbox({}, never);
  t.after(sandbox.close);
  // A network of somebody else, to be attached.
  assert.equal((await runInside(sandbox, ['ip', 'netns', 'add', 'somebody'])).exitCode, 0);
  const { url, token } = await serveHttp(t, { args: ['--toolsets', 'all'], socket: sandbox.socketPath });
  const inspect = inspector(['--server-url', url.href, '--transport', 'http', '--header', `Authorization: Bearer ${token}`, '--stored-auth-only']);
  const names = await list(inspect);
  assert.deepEqual(names, tools.map(({ toolName }) => toolName));
  for (const [tool, params] of CALLS) {
    const { exitCode, text } = await call(inspect, tool, params);
    assert.equal(exitCode, 0, `${tool}: ${text}`);
  }
  const missing = await call(inspect, 'service_get', { name: 'web' });
  assert.equal(missing.exitCode, TOOL_ERROR);
  assert.match(missing.text, /^\{"code":"SERVICE_NOT_FOUND"/);
  const all = new Set(CALLS.map(([tool]) => tool));
  assert.deepEqual(names.filter((name) => !all.has(name)), [], 'a tool was not called');

  const read = await inspect('resources/read', ['--uri', 'network://status']);
  assert.match(read.stdout, /\\"mode\\": \\"sandbox\\"/);
  const prompt = await inspect('prompts/get', ['--prompt-name', 'isolate_database', '--prompt-args', 'database=postgres', 'client=api']);
  assert.match(prompt.stdout, /network_policy_create/);
  const stranger = inspector(['--server-url', url.href, '--transport', 'http', '--stored-auth-only']);
  assert.notEqual((await stranger('tools/list')).exitCode, 0, 'without the token it is not let in');
});

test('on stdio it lists every tool, and calls some of the model', { timeout: 5 * 60_000 }, async (t) => {
  await ownHome(t);
  const inspect = inspector(['--', process.execPath, launcher, 'mcp', '--mode', 'model', '--toolsets', 'all']);
  assert.deepEqual(await list(inspect), tools.map(({ toolName }) => toolName));
  const created = await call(inspect, 'service_create', { name: 'web', selector: { app: 'web' }, port: 80 });
  assert.equal(created.exitCode, 0);
  assert.match(created.text, /clusterIp 10\.201\.0\.1/);
  const missing = await call(inspect, 'service_get', { name: 'web' });
  assert.equal(missing.exitCode, TOOL_ERROR, 'each run of the inspector has a model of its own');
  assert.match(missing.text, /^\{"code":"SERVICE_NOT_FOUND"/);
  assert.match((await inspect('resources/list')).stdout, /network:\/\/policies/);
});
