/** Holds the house together: which room may import which, what only one file may do, how files begin and how long they are. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { globSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { test } from 'node:test';

const root = resolve(import.meta.dirname, '..');

interface Import {
  readonly from: string;
  /** A file of ours relative to the root, or a package's name. */
  readonly to: string;
  readonly typeOnly: boolean;
}

const files = globSync(['src/**/*.ts', 'tools/**/*.ts'], { cwd: root }).toSorted();
const sources = new Map(files.map((file) => [file, readFileSync(join(root, file), 'utf8')]));
const imports: readonly Import[] = files.flatMap(importsOf);

/** For each room, the rooms and files that it may import; types count like values. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  'src/model/': ['src/model/'],
  'src/ipam/': ['src/model/', 'src/ipam/'],
  'src/compile/': ['src/model/', 'src/policy/', 'src/compile/'],
  'src/policy/': ['src/model/', 'src/policy/'],
  'src/interop/': ['src/model/', 'src/policy/', 'src/interop/', 'src/errors.ts'],
  'src/store/': ['src/store/', 'src/errors.ts'],
  'src/observed/': ['src/model/', 'src/compile/', 'src/observed/'],
  'src/flows/': ['src/model/', 'src/policy/', 'src/flows/', 'src/drivers/drift-watch-lines.ts'],
  'src/health/': ['src/model/', 'src/health/'],
  'src/drivers/': ['src/model/', 'src/compile/', 'src/drivers/', 'src/errors.ts'],
  'src/proxy/': ['src/model/', 'src/proxy/', 'src/errors.ts'],
  'src/runtime/': ['src/model/', 'src/runtime/', 'src/drivers/exec.ts', 'src/errors.ts'],
  'src/managers/': ['src/model/', 'src/ipam/', 'src/policy/', 'src/interop/', 'src/compile/', 'src/store/', 'src/managers/', 'src/errors.ts', 'tools/'],
  'tools/': ['src/model/', 'src/managers/managers.ts', 'tools/'],
};

for (const [room, allowed] of Object.entries(MAY_IMPORT)) {
  test(`${room} imports only ${allowed.join(', ')} and packages`, () => {
    const wrong = imports.filter(({ from, to }) => from.startsWith(room) && isOurs(to) && !allowed.some((place) => to.startsWith(place)));
    assert.deepEqual(wrong.map(({ from, to }) => `${from} -> ${to}`), []);
  });
}

test('managers take only types from the tools, and tools only types from the managers: calls go one way', () => {
  const values = imports.filter(({ from, to, typeOnly }) => !typeOnly && ((from.startsWith('src/managers/') && to.startsWith('tools/')) || (from.startsWith('tools/') && to.startsWith('src/managers/'))));
  assert.deepEqual(values, []);
});

test('only drivers/exec.ts starts other programs', () => {
  assert.deepEqual(importersOf('node:child_process'), ['src/drivers/exec.ts']);
});

test('only the agents make managers, and only the door runs tools with them', () => {
  const makers = files.filter((file) => /\bcreateManagers\(/.test(sourceOf(file)) && file !== 'src/managers/managers.ts');
  assert.deepEqual(makers, ['src/agent.ts', 'src/model-agent.ts']);
  assert.deepEqual(
    files.filter((file) => /\btool\.run\(/.test(sourceOf(file))),
    ['src/dispatch.ts'],
  );
});

test('compile steps and allocators read no clock, no file and no chance', () => {
  const impure = files
    .filter((file) => /^src\/(compile|ipam|policy)\//.test(file))
    .filter((file) => /Date\.now|new Date|Math\.random|performance\.|node:(fs|net|os|process)|process\./.test(sourceOf(file)));
  assert.deepEqual(impure, []);
});

test('the model loads nothing of Linux: no driver, no runtime, no reconciler, no sandbox', () => {
  const reached = new Set<string>();
  const visit = (file: string): void => {
    if (reached.has(file)) return;
    reached.add(file);
    for (const { from, to, typeOnly } of imports) if (from === file && !typeOnly) visit(to);
  };
  visit('src/model-agent.ts');
  assert.ok(reached.has('src/dispatch.ts') && reached.has('src/store/sqlite.ts'));
  assert.deepEqual([...reached].filter((file) => /^(src\/(drivers|runtime|reconcile|sandbox|proxy|health|flows)\/|node:child_process$)/.test(file)), []);
});

test('no import goes round in a circle', () => {
  const values = Map.groupBy(imports.filter(({ to, typeOnly }) => isOurs(to) && !typeOnly), ({ from }) => from);
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): void => {
    assert.ok(!path.includes(file), `circle: ${[...path, file].join(' -> ')}`);
    if (done.has(file)) return;
    for (const { to } of values.get(file) ?? []) visit(to, [...path, file]);
    done.add(file);
  };
  for (const file of files) visit(file, []);
});

test('every file opens with a sentence that says what it is, and has at most 300 lines', () => {
  const unsaid = files.filter((file) => !/^\/\*\*\s/.test(sourceOf(file)));
  assert.deepEqual(unsaid, []);
  const long = files.filter((file) => sourceOf(file).split('\n').length > 300);
  assert.deepEqual(long, []);
});

function importsOf(file: string): Import[] {
  const statement = /^(?:import|export)\s+(type\s+)?(?:[^'";]*?\sfrom\s+)?'([^']+)'|\bimport\('([^']+)'\)/gm;
  return [...sourceOf(file).matchAll(statement)].map(([, typeOnly, fixed, dynamic]) => {
    const name = fixed ?? dynamic ?? '';
    const to = name.startsWith('.') ? relative(root, resolve(root, file, '..', name)) : name;
    return { from: file, to, typeOnly: typeOnly !== undefined };
  });
}

function isOurs(name: string): boolean {
  return name.startsWith('src/') || name.startsWith('tools/');
}

function importersOf(name: string): string[] {
  return [...new Set(imports.filter(({ to, typeOnly }) => to === name && !typeOnly).map(({ from }) => from))];
}

function sourceOf(file: string): string {
  return sources.get(file) ?? '';
}
