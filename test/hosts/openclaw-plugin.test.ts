/** The plugin alone, with a stand-in for the host and for the agent: what it registers, and what its answers and errors look like. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { NodeHostCommand, NodeInvokePolicy, OpenClawPluginApi, OpenClawTool } from '../../src/surfaces/openclaw-api.ts';
import plugin from '../../src/surfaces/openclaw.ts';
import { inputSchema } from '../../src/surfaces/tool-schema.ts';
import { tools } from '../../tools/index.ts';
import { fakeAgent } from '../cli/fake-agent.ts';
import { checkout } from '../cli/sandbox-fixture.ts';
import { readSkill, skillExamples } from '../tools/skill-examples.ts';

const directory = await mkdtemp(join(tmpdir(), 'claw-plugin-'));
const socket = join(directory, 'agent.sock');
const agent = fakeAgent({ status: { mode: 'host', success: false, node: 'n\u001b[31m1\u202e' } }).listen(socket);
await once(agent, 'listening');
after(async () => {
  agent.close();
  await rm(directory, { recursive: true });
});

interface Registered {
  readonly tools: OpenClawTool[];
  readonly commands: NodeHostCommand[];
  readonly policies: NodeInvokePolicy[];
}

function register(pluginConfig: OpenClawPluginApi['pluginConfig']): Registered {
  const registered: Registered = { tools: [], commands: [], policies: [] };
  const outcome: unknown = plugin.register({
    ...(pluginConfig === undefined ? {} : { pluginConfig }),
    registerTool: (tool) => void registered.tools.push(tool),
    registerNodeHostCommand: (command) => void registered.commands.push(command),
    registerNodeInvokePolicy: (policy) => void registered.policies.push(policy),
  });
  // A promise would mean that the host goes on before everything is there.
  assert.equal(outcome, undefined);
  return registered;
}

const { tools: shown, commands, policies } = register({ socket });
const tool = (name: string): OpenClawTool => shown.find((each) => each.name === name) ?? assert.fail(name);
const command = (id: string): NodeHostCommand => commands.find((each) => each.command === id) ?? assert.fail(id);

test('the manifest declares the plugin, its tools and its configuration', async () => {
  const manifest = z
    .object({ id: z.string(), name: z.string(), contracts: z.object({ tools: z.array(z.string()) }), configSchema: z.object({ properties: z.record(z.string(), z.unknown()) }) })
    .parse(JSON.parse(await readFile(join(checkout, 'openclaw.plugin.json'), 'utf8')));
  assert.deepEqual({ id: manifest.id, name: manifest.name }, { id: plugin.id, name: plugin.name });
  // The host drops every tool that the manifest does not name.
  assert.deepEqual(manifest.contracts.tools, tools.map(({ toolName }) => toolName), 'run `npm run docs`');
  assert.deepEqual(Object.keys(manifest.configSchema.properties), ['socket']);
});

test('every command is a tool, a command of the node and in its policy', () => {
  assert.deepEqual(shown.map(({ name }) => name), tools.map(({ toolName }) => toolName));
  assert.deepEqual(shown.map(({ parameters }) => parameters), tools.map(inputSchema));
  const ids = tools.map((each) => each.command);
  assert.deepEqual(commands.map((each) => each.command), ids);
  // A tool of the node's own would take the command away from `node.invoke`.
  assert.ok(commands.every((each) => !('agentTool' in each) && !each.hasActiveWork()));
  assert.deepEqual(policies.map((policy) => policy.commands), [ids]);
});

test('registering again gives the same, and touches neither socket nor environment', () => {
  const [again, elsewhere] = [register(undefined), register({ socket: '/nowhere' })];
  assert.deepEqual(again.tools.map(({ name }) => name), elsewhere.tools.map(({ name }) => name));
  assert.equal(again.commands.length, commands.length);
});

test('the policy passes on what the node answers', async () => {
  const outcome = { ok: true, payloadJSON: '{}' } as const;
  assert.equal(await policies[0]?.handle({ invokeNode: () => Promise.resolve(outcome) }), outcome);
});

test("an answer is plain text and structured, and its own `success` does not grade the host's call", async () => {
  const { content, details } = await tool('network_status').execute('1', {});
  assert.deepEqual(details, { answer: { mode: 'host', success: false, node: 'n1' } });
  assert.match(content[0]?.text ?? '', /^network\.status: mode host, node n1/);
  assert.deepEqual(JSON.parse(await command('network.status').handle('{}')), { mode: 'host', success: false, node: 'n1' });
});

test("the agent's error arrives with code, path and hint", async () => {
  const error = { code: 'SERVICE_NOT_FOUND', message: 'no web', path: 'name', hint: 'look' };
  const { content, details } = await tool('service_get').execute('1', { name: 'web' });
  assert.deepEqual(details, { ok: false, error });
  assert.deepEqual(JSON.parse(content[0]?.text ?? ''), error);
  assert.deepEqual(JSON.parse(await command('service.get').handle('{"name":"web"}')), { error });
});

test("arguments that the agent would refuse are refused in its words, before the host's own check has a say", async () => {
  const refusal = (name: string, params: unknown): unknown => {
    try {
      return tool(name).prepareArguments(params);
    } catch (error) {
      return error instanceof Error ? JSON.parse(error.message) : error;
    }
  };
  const { code, path, hint } = z.record(z.string(), z.string()).parse(refusal('service_create', { name: 'web', port: 80_000 }));
  assert.deepEqual({ code, path }, { code: 'INVALID_ARGUMENT', path: 'port' });
  assert.match(hint ?? '', /^service\.create takes /);
  assert.deepEqual(refusal('workload_run', { name: 'web', dryRun: true }), {
    code: 'NOT_SUPPORTED',
    message: 'workload.run does not support dryRun yet',
    path: 'dryRun',
    hint: 'Leave it out.',
  });
  // The host's own check would make 0 of it.
  assert.match(JSON.stringify(refusal('service_create', { name: 'web', port: null })), /"path":"port"/);
  assert.deepEqual(refusal('network_status', undefined), {});
  assert.deepEqual(refusal('workload_run', { name: 'web', dryRun: false }), { name: 'web' });
});

test("what the agent takes passes the host's check of the schema too", async () => {
  for (const example of skillExamples(await readSkill())) {
    const { parameters, prepareArguments } = tool(example.command.replaceAll('.', '_'));
    assert.deepEqual(z.fromJSONSchema(parameters).safeParse(prepareArguments(example.params)).error?.issues, undefined, JSON.stringify(example));
  }
});

test('without an agent the answer says how to start one', async () => {
  const { tools: lonely, commands: lonelyCommands } = register({ socket: join(directory, 'none.sock') });
  const [result, payload] = await Promise.all([lonely[0]?.execute('1', {}), lonelyCommands[0]?.handle(null)]);
  const { details } = result ?? assert.fail();
  const { error } = z.object({ ok: z.literal(false), error: z.object({ code: z.string(), hint: z.string() }) }).parse(details);
  assert.equal(error.code, 'AGENT_UNREACHABLE');
  assert.match(error.hint, /clawnode up/);
  assert.match(payload ?? '', /^\{"error":\{"code":"AGENT_UNREACHABLE"/);
});

test('an agent that is just being restarted is waited for', async () => {
  const restarting = join(directory, 'restarting.sock');
  const { tools: patient, commands: patientCommands } = register({ socket: restarting });
  const named = { command: 'network.status', toolName: 'network_status' };
  const answers = Promise.all([
    patientCommands.find((each) => each.command === named.command)?.handle('{}'),
    patient.find((each) => each.name === named.toolName)?.execute('1', {}),
  ]);
  await sleep(300);
  const back = fakeAgent({ status: { mode: 'host' } }).listen(restarting);
  after(() => void back.close());
  const [payload, result] = await answers;
  assert.equal(payload, '{"mode":"host"}');
  assert.deepEqual(result?.details, { answer: { mode: 'host' } });
});

test('without a socket in the configuration it is the one of the environment', async (t) => {
  const { CLAWNODE_SOCKET: before } = process.env;
  t.after(() => {
    if (before === undefined) delete process.env['CLAWNODE_SOCKET'];
    else process.env['CLAWNODE_SOCKET'] = before;
  });
  const { commands: unconfigured } = register({ socket: '' });
  // Looked up at the call: the host may have set it after it has loaded the plugin.
  process.env['CLAWNODE_SOCKET'] = socket;
  const payload = await unconfigured.find((each) => each.command === 'network.status')?.handle('{}');
  assert.match(payload ?? '', /"node":"n1"/);
});

test('parameters that are no JSON are refused, and an aborted call is cancelled', async () => {
  assert.match(await command('service.get').handle('{'), /^\{"error":\{"code":"INVALID_ARGUMENT"/);
  const signal = AbortSignal.abort();
  assert.match(await command('service.get').handle('{}', undefined, { signal }), /^\{"error":\{"code":"CANCELLED"/);
  assert.deepEqual(Object.keys((await tool('service_get').execute('1', {}, signal)).details), ['ok', 'error']);
});
