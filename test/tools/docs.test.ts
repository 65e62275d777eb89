/** The generated documents hold every command, and `--check` sees when they are stale. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { z } from 'zod';
import { commandsDocument, configurationDocument, withTable, withTools } from '../../scripts/generate-docs.ts';
import { findTool, tools } from '../../tools/index.ts';

const readme = await readFile(new URL('../../README.md', import.meta.url), 'utf8');

test('README, docs/commands.md, docs/configuration.md and openclaw.plugin.json are up to date', async () => {
  const plugin = await readFile(new URL('../../openclaw.plugin.json', import.meta.url), 'utf8');
  assert.equal(withTools(plugin), plugin);
  assert.equal(withTable(readme), readme);
  assert.equal(await readFile(new URL('../../docs/commands.md', import.meta.url), 'utf8'), commandsDocument());
  assert.equal(await readFile(new URL('../../docs/configuration.md', import.meta.url), 'utf8'), configurationDocument());
});

test('every command stands in both, with its parameters', () => {
  for (const { command, toolName, input } of tools) {
    assert.ok(readme.includes(`| \`${command}\` |`), command);
    const section = commandsDocument().split(`### ${command}\n`)[1]?.split('\n### ')[0] ?? '';
    assert.ok(section.includes(`\`${toolName}\``), command);
    for (const parameter of Object.keys(input.shape)) assert.ok(section.includes(`| \`${parameter}\` |`), `${command} ${parameter}`);
  }
});

test('every field has a type', () => {
  for (const document of [commandsDocument(), configurationDocument()]) assert.doesNotMatch(document, /\| any \|/);
});

test('tables hold no cell that breaks them', () => {
  for (const [document, columns] of [[commandsDocument(), 3], [configurationDocument(), 4]] as const) {
    for (const row of document.split('\n').filter((line) => line.startsWith('|'))) {
      assert.equal(row.split(/(?<!\\)\|/).length, columns + 2, row);
    }
  }
});

test('a README without the markers is told, and another table is replaced', () => {
  assert.throws(() => withTable('# nothing'), /lacks the markers/);
  const [before = '', after = ''] = readme.split('| `service.get` |');
  assert.equal(withTable(`${before}| stale |${after}`), readme);
});

test('what may be null keeps its description', () => {
  const update = commandsDocument().split('### service.update\n')[1] ?? '';
  assert.match(update, /\| `selector` \| \{ key: string \} \\\| null \| Labels that its workloads carry \|/);
  assert.match(commandsDocument(), /\| `tls` \| boolean \\\| null \|/);
});

test("the README's configuration for Claude Desktop starts a program that the package brings", async () => {
  const [, json = ''] = /`claude_desktop_config\.json`:\n\n```json\n([^]*?)```/.exec(readme) ?? [];
  const { bin } = z.object({ bin: z.record(z.string(), z.string()) }).parse(JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8')));
  const server = z.strictObject({ command: z.enum(Object.keys(bin)), args: z.tuple([z.literal('mcp')]) });
  const parsed = z.strictObject({ mcpServers: z.record(z.string(), server) }).safeParse(JSON.parse(json));
  assert.deepEqual(parsed.error?.issues, undefined);
});

test("the README's calls on the command line are calls that their tools take", () => {
  const calls = [...readme.matchAll(/^clawnode invoke (\S+) '([^]*?)'$/gm)];
  assert.ok(calls.length >= 3);
  for (const [line, command = '', quoted = ''] of calls) {
    const params = quoted.replaceAll("'$(command -v node)'", '/usr/bin/node');
    assert.deepEqual(findTool(command)?.input.safeParse(JSON.parse(params)).error?.issues, undefined, line);
    assert.ok(findTool(command) !== undefined, line);
  }
});
