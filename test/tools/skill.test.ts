/** SKILL.md: what hosts need of it, and that each of its examples is a call that the registry takes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode } from 'gpt-tokenizer/encoding/o200k_base';
import { parse } from 'yaml';
import { ERROR_CODES } from '../../src/errors.ts';
import { refuseLaterCommand } from '../../src/not-built.ts';
import { findTool, tools } from '../../tools/index.ts';
import { readSkill, skillExamples } from './skill-examples.ts';

const skill = await readSkill();
const examples = skillExamples(skill);
const LATER = '\n## Not there yet\n';

test('the front matter names the skill and the program it needs', () => {
  const [, frontMatter = ''] = /^---\n([^]*?)\n---\n/.exec(skill) ?? [];
  const parsed: unknown = parse(frontMatter);
  assert.ok(typeof parsed === 'object' && parsed !== null && 'description' in parsed && typeof parsed.description === 'string');
  assert.ok(parsed.description.length > 20 && parsed.description.length < 200);
  assert.deepEqual({ ...parsed, description: '' }, { name: 'networking', description: '', metadata: { openclaw: { requires: { bins: ['clawnode'] } } } });
});

test('every example is a call that its tool takes', () => {
  assert.ok(examples.length >= 30, `${examples.length} examples`);
  for (const { command, params, section } of examples) {
    const tool = findTool(command);
    assert.ok(tool !== undefined, `${command} under "${section}"`);
    assert.deepEqual(tool.input.safeParse(params).error?.issues, undefined, `${command} ${JSON.stringify(params)}`);
  }
});

test('every code block holds calls, so that all of it is checked', () => {
  const blocks = [...skill.matchAll(/^```\n([^]*?)^```$/gm)].map(([, block = '']) => block);
  assert.equal(skill.match(/^```/gm)?.length, 2 * blocks.length);
  assert.deepEqual(blocks.filter((block) => !block.startsWith('node.invoke <node-id> ')), []);
});

test('every command has an example', () => {
  const shown = new Set(examples.map(({ command }) => command));
  assert.deepEqual(tools.map(({ command }) => command).filter((command) => !shown.has(command)), []);
});

test('commands and error codes that the text names exist', () => {
  const built = namedCommands(skill.split(LATER, 1)[0] ?? '');
  assert.ok(built.length > 5);
  for (const command of built) assert.ok(findTool(command) !== undefined, command);
  const codes = [...skill.matchAll(/`([A-Z]+_[A-Z_]+|CONFLICT|TIMEOUT|CANCELLED)`/g)].map(([, code = '']) => code);
  assert.ok(codes.length > 20);
  const known: readonly string[] = ERROR_CODES;
  assert.deepEqual(codes.filter((code) => !known.includes(code)), []);
});

test('what is called missing is missing, and refused as such', () => {
  const [, later = ''] = skill.split(LATER);
  const groups = [...later.matchAll(/`([a-z]+\.)\*`/g)].map(([, group = '']) => group);
  assert.deepEqual(groups, ['mesh.', 'node.']);
  for (const group of groups) assert.ok(!tools.some(({ command }) => command.startsWith(group)), group);
  for (const command of ['mesh.invite', 'node.list']) assert.throws(() => refuseLaterCommand(command), { code: 'NOT_SUPPORTED' }, command);
});

test('every code that a command of the agent can fail with has its row', () => {
  const [, table = ''] = /## When something fails\n([^]*?)\n## /.exec(skill) ?? [];
  // These are told by the command line or the agent's start, never as the answer to a command.
  const elsewhere = new Set(['AGENT_ALREADY_RUNNING', 'CONFIG_INVALID', 'MISSING_BINARY', 'PROCESS_FAILED', 'RANGE_OVERLAP', 'SANDBOX_UNAVAILABLE']);
  const byHint = new Set(['INTERNAL', 'STORE_FAILED', 'WORKLOAD_FAILED']);
  assert.match(table, /\| any other code \| do what `hint` says/);
  assert.deepEqual(ERROR_CODES.filter((code) => !elsewhere.has(code) && !byHint.has(code) && !table.includes(`\`${code}\``)), []);
});

test('it stays small enough to be read whole', () => {
  const tokens = encode(skill).length;
  assert.ok(tokens < 5_500, `${tokens} tokens`);
});

/** The commands named in running text, of the groups that the registry has; `network.policy.` for `network.policy.*`. */
function namedCommands(text: string): string[] {
  const groups = new Set(tools.map(({ command }) => command.split('.', 1)[0]));
  return [...text.matchAll(/`([a-z]+\.[a-z_.]+)[^`]*`/g)].map(([, command = '']) => command).filter((command) => groups.has(command.split('.', 1)[0]));
}
