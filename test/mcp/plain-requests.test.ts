/** The table of plain requests against the registry, the listed schemas and a model agent; and that no two tools say the same of themselves. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { z } from 'zod';
import { toClawError } from '../../src/errors.ts';
import { openModelAgent } from '../../src/model-agent.ts';
import { listTools } from '../../src/surfaces/mcp-tools.ts';
import { findTool, tools } from '../../tools/index.ts';
import { plainRequests } from './plain-requests.ts';

const listed = new Map(listTools({}).map((tool) => [tool.name, tool]));

test('there are at least forty, each in other words, and every tool comes up', () => {
  assert.ok(plainRequests.length >= 40);
  assert.equal(new Set(plainRequests.map(({ request }) => request)).size, plainRequests.length);
  const named = new Set(plainRequests.map(({ tool }) => tool));
  assert.deepEqual(tools.map(({ toolName }) => toolName).filter((name) => !named.has(name)), []);
});

test('the arguments fit the schema that a model reads, and the one that is enforced', () => {
  for (const { request, tool, args } of plainRequests) {
    const { input } = findTool(tool) ?? assert.fail(`there is no tool ${tool}`);
    assert.deepEqual(input.safeParse(args).error?.issues, undefined, request);
    const { inputSchema } = listed.get(tool) ?? assert.fail(`${tool} is not listed`);
    assert.deepEqual(z.fromJSONSchema(z.record(z.string(), z.any()).parse(inputSchema)).safeParse(args).error?.issues, undefined, request);
  }
});

test('the set of each is the smallest that has its tool', () => {
  const usual = new Set(listTools({ toolsets: ['default'] }).map(({ name }) => name));
  assert.deepEqual(plainRequests.filter(({ set, tool }) => (set === 'default') !== usual.has(tool)), []);
});

test('a model agent carries them out in this order', async (t) => {
  const agent = await openModelAgent({ nodeId: 'n1', logger: pino({ level: 'silent' }) });
  t.after(() => agent.close());
  const caller = { surface: 'test', peer: Promise.resolve('test') };
  for (const { request, tool, args, refusedByModel } of plainRequests) {
    const outcome = await agent.invoke({ command: tool, params: args, caller }, new AbortController().signal).then(
      () => undefined,
      (error: unknown) => toClawError(error),
    );
    assert.equal(outcome?.code, refusedByModel, `${request}: ${outcome?.message ?? 'was carried out'}`);
  }
});

/** Of the words that tell tools apart, shared ones over all: 1 for two equal texts. */
const MOST_ALIKE = 0.5;

test('no two descriptions are nearly the same', () => {
  const words = tools.map(({ command, description }) => ({ command, said: new Set(description.toLowerCase().match(/[a-z]{3,}/g)) }));
  for (const [index, one] of words.entries()) {
    for (const other of words.slice(index + 1)) {
      const alike = shared(one.said, other.said);
      assert.ok(alike < MOST_ALIKE, `${one.command} and ${other.command}: ${alike.toFixed(2)}`);
    }
  }
});

function shared(one: ReadonlySet<string>, other: ReadonlySet<string>): number {
  const common = [...one].filter((word) => other.has(word)).length;
  return common / (one.size + other.size - common);
}
