/** What tools/list says: names, hints, schemas and what they cost a model. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode } from 'gpt-tokenizer/encoding/o200k_base';
import { listTools } from '../../src/surfaces/mcp-tools.ts';
import { findTool, tools } from '../../tools/index.ts';
import { openSession } from './client.ts';
import { sampleAnswers } from './sample-answers.ts';

const TOKEN_BUDGET = 8_000;
const DEFAULT_TOKEN_BUDGET = 3_500;

test('the whole list costs a model at most 8,000 tokens', async () => {
  await using session = await openSession();
  const listed = await session.client.listTools();
  const tokens = encode(JSON.stringify(listed)).length;
  assert.ok(tokens <= TOKEN_BUDGET, `${tokens} tokens`);
  assert.equal(listed.nextCursor, undefined);
  assert.equal(listed.tools.length, tools.length);
});

test('the default set costs at most 3,500, and has every command of the first patterns', async () => {
  await using session = await openSession({ toolsets: ['default'] });
  const listed = await session.client.listTools();
  const tokens = encode(JSON.stringify(listed)).length;
  assert.ok(tokens <= DEFAULT_TOKEN_BUDGET, `${tokens} tokens`);
  const names = new Set(listed.tools.map(({ name }) => name));
  const patterns =
    'service_create service_get service_list service_delete service_endpoints ingress_create ingress_delete network_status network_policy_create network_policy_list network_policy_delete workload_run workload_stop';
  assert.deepEqual(patterns.split(' ').filter((name) => !names.has(name)), []);
});

test('every command is listed once, under a name that all hosts take', () => {
  const names = listTools({}).map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
  for (const [index, name] of names.entries()) {
    assert.match(name, /^[a-z][a-z0-9_]{0,39}$/);
    assert.doesNotMatch(name, /__/);
    assert.equal(name, tools[index]?.command.replaceAll('.', '_'));
  }
});

test('every tool has a title, one line of description, both schemas and all four hints', () => {
  for (const { name, title, description, inputSchema, outputSchema, annotations } of listTools({})) {
    assert.ok(title !== undefined && title.length > 3, name);
    assert.ok(description !== undefined && description.length > 10 && !description.includes('\n'), name);
    assert.equal(inputSchema.type, 'object', name);
    assert.equal(outputSchema?.type, 'object', name);
    const { effect, idempotent } = findTool(name) ?? assert.fail(name);
    assert.deepEqual(annotations, {
      readOnlyHint: effect === 'read',
      destructiveHint: effect === 'destroy' || effect === 'replace',
      idempotentHint: idempotent,
      openWorldHint: false,
    });
  }
});

test('schemas hold nothing that costs tokens without helping', () => {
  const text = JSON.stringify(listTools({}));
  for (const noise of ['$schema', '"pattern"', 'propertyNames', String(Number.MAX_SAFE_INTEGER), '"format":"']) {
    assert.ok(!text.includes(noise), noise);
  }
});

test('every list in an argument says what it holds: OpenAI and VS Code refuse the tool otherwise', () => {
  const bare = (schema: unknown, path: string): string[] => {
    if (typeof schema !== 'object' || schema === null) return [];
    const node = new Map(Object.entries(schema));
    const isList = [node.get('type')].flat().includes('array');
    return [...(isList && !node.has('items') ? [path] : []), ...[...node].flatMap(([key, value]) => bare(value, `${path}.${key}`))];
  };
  assert.deepEqual(bare({ type: ['array', 'null'] }, 'x'), ['x']);
  assert.deepEqual(listTools({}).flatMap(({ name, inputSchema }) => bare(inputSchema, name)), []);
});

test('what only adds is not called destructive, and what overwrites or removes is', () => {
  const destructive = listTools({}).flatMap(({ name, annotations }) => (annotations.destructiveHint ? [name] : []));
  const named = tools.map(({ toolName }) => toolName).filter((name) => /_(update|delete|stop|detach|apply)$/.test(name));
  assert.deepEqual(destructive, named);
});

test('input schemas keep what a model needs', () => {
  const create = listTools({}).find(({ name }) => name === 'service_create');
  assert.deepEqual(create?.inputSchema.required, ['name']);
  assert.deepEqual(create?.inputSchema.properties?.['protocol'], { type: 'string', enum: ['tcp', 'udp'], description: 'Default: tcp' });
  assert.deepEqual(create?.inputSchema.properties?.['selector'], {
    type: 'object',
    additionalProperties: { type: 'string' },
    description: 'Labels that its workloads carry',
  });
  const update = listTools({}).find(({ name }) => name === 'service_update');
  const targetPort: unknown = update?.inputSchema.properties?.['targetPort'];
  assert.match(JSON.stringify(targetPort), /"null"/, 'null removes an optional field, so the schema must allow it');
  assert.deepEqual(update?.inputSchema.properties?.['protocol'], { type: ['string', 'null'], enum: ['tcp', 'udp', null] });
});

test('output schemas are never stricter than what the agent validates', () => {
  for (const { name, outputSchema } of listTools({})) {
    const { output } = findTool(name) ?? assert.fail(name);
    assert.deepEqual(Object.keys(outputSchema?.properties ?? {}).toSorted(), Object.keys(output.shape).toSorted(), name);
    for (const [key, field] of Object.entries(outputSchema?.properties ?? {})) {
      assert.deepEqual(Object.keys(field).filter((keyword) => keyword !== 'type'), [], `${name}.${key} says more than its type`);
    }
    assert.ok(!JSON.stringify(outputSchema).includes('additionalProperties'), name);
  }
});

test('there is one sample answer per command, valid by its schema', () => {
  assert.deepEqual(Object.keys(sampleAnswers).toSorted(), tools.map(({ command }) => command).toSorted());
  for (const { command, output } of tools) assert.deepEqual(output.safeParse(sampleAnswers[command]).error?.issues, undefined, command);
});

test('read-only and toolsets hide what they refuse', () => {
  assert.ok(listTools({ readOnly: true }).every(({ annotations }) => annotations.readOnlyHint));
  assert.ok(listTools({ readOnly: true }).length > 5);
  assert.deepEqual(
    listTools({ readOnly: true, toolsets: ['services', 'network'] }).map(({ name }) => name),
    ['service_get', 'service_list', 'service_endpoints', 'network_status'],
  );
  assert.ok(listTools({ noDestructive: true }).every(({ annotations }) => !annotations.destructiveHint));
  assert.deepEqual(
    listTools({ noDestructive: true, toolsets: ['ingress'] }).map(({ name }) => name),
    ['ingress_create', 'ingress_get', 'ingress_list'],
  );
  assert.deepEqual(listTools({ toolsets: ['all'] }), listTools({}));
  const usual = new Set(listTools({ readOnly: true, toolsets: ['default'] }).map(({ name }) => name));
  const wider = listTools({ readOnly: true, toolsets: ['default', 'namespaces'] }).map(({ name }) => name);
  assert.deepEqual(wider.filter((name) => !usual.has(name)), ['namespace_list']);
  assert.equal(wider.length, usual.size + 1);
});
