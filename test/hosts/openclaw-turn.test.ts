/** One turn of an agent in the real OpenClaw host: a scripted model finds the skill, follows it on a real kernel, meets errors, and then an agent that is down. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { z } from 'zod';
import { openSandbox } from '../../src/sandbox/sandbox.ts';
import { connectAgent } from '../../src/surfaces/agent-client.ts';
import { inputSchema } from '../../src/surfaces/tool-schema.ts';
import { tools } from '../../tools/index.ts';
import { readSkill, skillExamples, withThisNode, type SkillExample } from '../tools/skill-examples.ts';
import { installPlugin, NODE_NAME, startAgent } from './openclaw-agent.ts';
import { openHost } from './openclaw-host.ts';
import { connectFrom, spreadInside, spreadOutside } from './sandbox-packets.ts';
import { call, openModel, type ModelRequest, type ToolCall } from './scripted-model.ts';

const never = new AbortController().signal;
const ourSkill = await readSkill();
const host = await openHost();
// After the test's own endings: a gateway that still runs would write into the home again.
after(host.close);
const refusal = z.object({ code: z.string(), message: z.string(), path: z.string().optional(), hint: z.string() });
/** A part of the script: it yields calls and is given their results. */
type Step<Value> = Generator<ToolCall, Value, string>;

test('a model that follows SKILL.md publishes a service and isolates a database; without an agent it is told how to start one', async (t) => {
  const bin = await installPlugin(host);
  const sandbox = await openSandbox({}, never);
  t.after(sandbox.close);
  const model = await openModel();
  t.after(model.close);
  const agent = await startAgent(t, host, { model, bin, socketPath: sandbox.socketPath });

  const said = await agent.turn('Publish www.example.com and let nobody but the API reach our database.', function* (request) {
    const skill = yield* readTheSkill(request);
    checkTools(request);
    const clusterIp = yield* publish(patternOf(skill, 'Expose a web service with load balancing'));
    yield* isolate(patternOf(skill, 'Isolate a database'));
    return `www.example.com is served from ${clusterIp}, and only the API reaches the database.`;
  });

  const { invoke } = connectAgent(sandbox.socketPath);
  const { clusterIp } = z.object({ clusterIp: z.string() }).parse(await invoke('service.get', { name: 'web' }, never));
  assert.equal(said, `www.example.com is served from ${clusterIp}, and only the API reaches the database.`);
  for (const { answers, failures } of [await spreadInside(sandbox, { host: clusterIp, port: 80 }), await spreadOutside(sandbox, 'www.example.com')]) {
    assert.deepEqual(failures, {});
    assert.deepEqual(Object.keys(answers).toSorted(), ['web-1', 'web-2']);
    // Of 60 by chance fewer than 10 go to one of two once in some 30 million times; the ingress takes turns by load.
    assert.ok(Math.min(...Object.values(answers)) >= 10, JSON.stringify(answers));
  }
  const workload = async (name: string): Promise<{ id: string; meshIp: string }> =>
    z.object({ id: z.string(), meshIp: z.string() }).parse(await invoke('workload.get', { name }, never));
  const [api, web, database] = [await workload('api-1'), await workload('web-2'), await workload('postgres-1')];
  assert.equal(await connectFrom(sandbox, api.id, { host: database.meshIp, port: 5432 }), 'CONNECTED');
  assert.equal(await connectFrom(sandbox, web.id, { host: database.meshIp, port: 5432 }), 'ECONNREFUSED');
  for (const to of [{ host: web.meshIp, port: 8080 }, { host: clusterIp, port: 80 }]) {
    assert.equal(await connectFrom(sandbox, api.id, to), 'CONNECTED');
    assert.equal(await connectFrom(sandbox, database.id, to), 'ECONNREFUSED');
  }

  await sandbox.close();
  const advice = await agent.turn('Is all of that still there?', function* () {
    const byTool = refusal.parse(JSON.parse(yield* call('service_list', {})));
    const byNode = refusal.parse((yield* invokeNode('service.list', {}))['error']);
    assert.deepEqual([byTool.code, byNode.code], ['AGENT_UNREACHABLE', 'AGENT_UNREACHABLE']);
    assert.equal(byTool.hint, byNode.hint);
    return byTool.hint;
  });
  assert.match(advice, /clawnode up/);
});

/** As the host's prompt tells every model to: find it in the list, then read the file at its location. */
function* readTheSkill({ system }: ModelRequest): Step<string> {
  const [, listed = ''] = /<skill>\s*<name>networking<\/name>([^]*?)<\/skill>/.exec(system) ?? [];
  const tag = (name: string): string => new RegExp(`<${name}>(.*)</${name}>`).exec(listed)?.[1] ?? '';
  assert.ok(ourSkill.includes(`\ndescription: ${tag('description')}\n`), listed);
  const text = yield* call('read', { path: tag('location') });
  assert.equal(text, ourSkill);
  return text;
}

/** Every command is a tool that the model can call, with the description and the schema that we gave; the host adds `items` to lists that say nothing of them. */
function checkTools({ tools: shown }: ModelRequest): void {
  for (const tool of tools) assert.partialDeepStrictEqual(shown.get(tool.toolName), { description: tool.description, parameters: inputSchema(tool) });
}

/** Through `node.invoke <node-id> COMMAND {...}`, the tool `nodes` of the host, as the skill writes it. */
function* publish(calls: readonly SkillExample[]): Step<string> {
  const [service, ...rest] = calls;
  assert.equal(service?.command, 'service.create');
  const wrong = { ...z.looseObject({}).parse(service.params), port: 80_000 };
  const { code, path = '', hint } = refusal.parse((yield* invokeNode(service.command, wrong))['error']);
  assert.equal(code, 'INVALID_ARGUMENT');
  assert.match(hint, /^service\.create takes .*port/);
  const { clusterIp } = yield* invokeNode(service.command, { ...wrong, [path]: 80 });
  for (const example of rest) {
    const { error } = yield* invokeNode(example.command, withThisNode(example));
    assert.equal(error, undefined, JSON.stringify(error));
  }
  assert.equal((yield* invokeNode('service.endpoints', { name: 'web' }))['total'], 2);
  const shown = yield* call('service_get', { name: 'web' });
  assert.ok(shown.includes(`clusterIp ${String(clusterIp)}`), shown);
  return String(clusterIp);
}

/** Through the tools of the plugin. */
function* isolate(calls: readonly SkillExample[]): Step<void> {
  const wrong = refusal.parse(JSON.parse(yield* call('service_create', { name: 'db', selector: { app: 'postgres' }, port: 80_000 })));
  assert.deepEqual([wrong.code, wrong.path], ['INVALID_ARGUMENT', 'port']);
  assert.match(wrong.hint, /^service\.create takes /);
  const texts: string[] = [];
  for (const example of calls) texts.push(yield* call(example.command.replaceAll('.', '_'), withThisNode(example)));
  const [fromApi = '', fromWeb = ''] = texts.filter((text) => text.startsWith('network.probe: '));
  assert.match(fromApi, /\breachable, .*expected allow, agreesWithModel\b/);
  assert.match(fromWeb, /reachable no, .*expected deny, agreesWithModel\b/);
  const verdict = texts.find((text) => text.startsWith('network.explain: ')) ?? '';
  assert.match(verdict, /verdict deny/);
  assert.match(verdict, /db-isolation/);
}

function* invokeNode(command: string, params: unknown): Step<Readonly<Record<string, unknown>>> {
  const text = yield* call('nodes', { action: 'invoke', node: NODE_NAME, invokeCommand: command, invokeParamsJson: JSON.stringify(params) });
  return z.object({ payload: z.record(z.string(), z.unknown()) }).parse(JSON.parse(text)).payload;
}

function patternOf(skill: string, section: string): SkillExample[] {
  const calls = skillExamples(skill).filter((example) => example.section === section);
  assert.ok(calls.length > 3, section);
  return calls;
}
