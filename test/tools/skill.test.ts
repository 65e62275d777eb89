/** SKILL.md: what hosts need of it, and that each of its examples is a call that the registry takes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode } from 'gpt-tokenizer/encoding/o200k_base';
import { parse } from 'yaml';
import { ERROR_CODES } from '../../src/errors.ts';
import { findTool, tools } from '../../tools/index.ts';
import { readSkill, skillExamples } from './skill-examples.ts';

const skill = await readSkill();
const examples = skillExamples(skill);

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

test('every command has an example', () => {
  const shown = new Set(examples.map(({ command }) => command));
  assert.deepEqual(tools.map(({ command }) => command).filter((command) => !shown.has(command)), []);
});

test('commands and error codes that the text names exist', () => {
  const nouns = new Set(tools.map(({ command }) => command.split('.', 1)[0]));
  const named = [...skill.matchAll(/`([a-z]+\.[a-z_.]+)[^`]*`/g)].map(([, command = '']) => command).filter((command) => nouns.has(command.split('.', 1)[0]));
  assert.ok(named.length > 5);
  for (const command of named) assert.ok(findTool(command) !== undefined || command === 'network.policy.', command);
  const codes = [...skill.matchAll(/`([A-Z]+_[A-Z_]+)`/g)].map(([, code = '']) => code);
  assert.ok(codes.length > 8);
  const known: readonly string[] = ERROR_CODES;
  assert.deepEqual(codes.filter((code) => !known.includes(code)), []);
});

test('it stays small enough to be read whole', () => {
  const tokens = encode(skill).length;
  assert.ok(tokens < 4_500, `${tokens} tokens`);
});
