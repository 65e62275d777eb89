/** The generated documents hold every command, and `--check` sees when they are stale. */
import assert from 'node:assert/strict';
import { readFile, readdir } from 'node:fs/promises';
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

test('every link within the documents leads to a file and a heading that are there, and the index of decisions names them all', async () => {
  const root = new URL('../../', import.meta.url);
  const names = [...(await readdir(new URL('docs/', root), { recursive: true })).map((name) => `docs/${name}`), ...(await readdir(root))].filter((name) => /^(docs\/.*|[A-Z]+)\.md$/.test(name));
  assert.ok(names.length > 30, names.join(' '));
  const dead: string[] = [];
  for (const name of names) {
    const text = await readFile(new URL(name, root), 'utf8');
    for (const [, link = ''] of text.matchAll(/\]\((?!https?:)([^)]+)\)/g)) {
      const target = new URL(link, new URL(name, root));
      const anchor = target.hash.slice(1);
      target.hash = '';
      const there = await readFile(target, 'utf8').catch(() => undefined);
      const headings = [...(there ?? '').matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => heading.toLowerCase().replaceAll(/[^\w -]/g, '').replaceAll(' ', '-'));
      if (there === undefined || (anchor !== '' && !headings.includes(anchor))) dead.push(`${name}: ${link}`);
    }
  }
  assert.deepEqual(dead, []);
  const records = (await readdir(new URL('docs/decisions/', root))).filter((name) => /^\d{4}-/.test(name)).toSorted();
  const index = await readFile(new URL('docs/decisions/README.md', root), 'utf8');
  assert.deepEqual([...index.matchAll(/^(\d+)\. \[.*\]\((.*)\)$/gm)].map(([, number, name]) => [number, name]), records.map((name, at) => [String(at + 1), name]));
});
