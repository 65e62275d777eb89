/** The launcher: which Node runs the program, and how exit codes, signals and deaths pass through. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';
import { start } from '../../src/drivers/exec.ts';
import { launcher, runProcess } from '../cli/cli-process.ts';
import { checkout, eventually } from '../cli/sandbox-fixture.ts';

const directory = await mkdtemp(join(tmpdir(), 'claw-bin-'));
after(() => rm(directory, { recursive: true }));

// A preloaded module lets a new Node pass for an old one: not every machine that runs the tests has an old one.
const old = join(directory, 'old-node.cjs');
await writeFile(old, `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '20.20.2' } });`);

/** A package with the launcher, a command line that shows what reaches it, and, if wished, a Node of its own. */
async function packageWith(name: string, { node, built = false }: { node?: string; built?: boolean }): Promise<string> {
  const root = join(directory, name);
  const cli = join(root, ...(built ? ['dist'] : []), 'src', 'surfaces', 'cli');
  await mkdir(cli, { recursive: true });
  await mkdir(join(root, 'bin'));
  await writeFile(join(root, 'package.json'), '{"type":"module"}');
  await writeFile(join(root, 'bin', 'clawnode.js'), await readFile(launcher));
  await writeFile(join(cli, built ? 'main.js' : 'main.ts'), PROBE);
  if (node !== undefined) {
    const folder = join(root, 'node_modules', `node-linux-${process.arch}`);
    await mkdir(join(folder, 'bin'), { recursive: true });
    await writeFile(join(folder, 'package.json'), JSON.stringify({ version: node }));
    await symlink(process.execPath, join(folder, 'bin', 'node'));
  }
  return join(root, 'bin', 'clawnode.js');
}

const PROBE = `
export async function main(argv) {
  const [what, value] = argv;
  console.log(JSON.stringify({ argv, pid: process.pid, leaked: Object.keys(process.env).filter((name) => /LAUNCHER|NODE_CHANNEL/.test(name)) }));
  if (what === 'exit') return Number(value);
  if (what === 'die') process.kill(process.pid, value);
  if (what === 'cat') { for await (const chunk of process.stdin) process.stdout.write(chunk); return 0; }
  let signals = 0;
  for (const name of ['SIGINT', 'SIGTERM']) process.on(name, () => { signals += 1; console.log(name); });
  await new Promise((resolve) => { const timer = setInterval(() => { if (signals > 0) { clearInterval(timer); setTimeout(resolve, 100); } }, 20); });
  return 40 + signals;
}
`;

test('a new Node runs the program in this process, an old one under the Node that came with the package', async () => {
  const bin = await packageWith('both', { node: '24.16.0' });
  for (const node of [[process.execPath], [process.execPath, '--require', old]]) {
    const [program = '', ...flags] = node;
    const { exitCode, stdout, stderr } = await runProcess([program, ...flags, bin, 'exit', '7', 'a b', '--', '']);
    assert.deepEqual({ exitCode, stderr }, { exitCode: 7, stderr: '' });
    assert.deepEqual(JSON.parse(stdout).argv, ['exit', '7', 'a b', '--', '']);
    assert.deepEqual(JSON.parse(stdout).leaked, []);
  }
});

test('the real package: an old Node gets through to the version, also by a symlink and from elsewhere', async () => {
  const link = join(directory, 'clawnode');
  await symlink(launcher, link);
  const { version } = JSON.parse(await readFile(join(checkout, 'package.json'), 'utf8'));
  for (const argv of [[process.execPath, link], [process.execPath, '--require', old, link]]) {
    const [program = '', ...args] = argv;
    assert.equal((await runProcess([program, ...args, '--version'], { cwd: '/' })).stdout, `${version}\n`);
  }
});

test('the published package runs its built files', async () => {
  const bin = await packageWith('published', { built: true });
  assert.equal((await runProcess([process.execPath, bin, 'exit', '3'])).exitCode, 3);
});

test('without a new Node there is one line that says what is needed, and exit code 1', async () => {
  for (const bin of [await packageWith('none', {}), await packageWith('older', { node: '22.1.0' })]) {
    const { exitCode, stdout, stderr } = await runProcess([process.execPath, '--require', old, bin, 'exit', '0']);
    assert.deepEqual({ exitCode, stdout }, { exitCode: 1, stdout: '' });
    assert.match(stderr, /^clawnode needs Node\.js >= 24\.16, this is 20\.20\.2: [^\n]*npm ci[^\n]*\n$/);
  }
});

test('the launcher parses on Node 14: no syntax that came later', async () => {
  const source = await readFile(launcher, 'utf8');
  // Static blocks, private methods, `??=`, `.at()`, `structuredClone` and top-level await came after 14.0.
  assert.doesNotMatch(source, /static \{|#\w+\(|\?\?=|\|\|=|&&=|\.at\(|structuredClone|^await /m);
});

test('standard input and output pass through', async () => {
  const bin = await packageWith('stdio', { node: '24.16.0' });
  const input = 'x'.repeat(300_000);
  const { stdout } = await runProcess([process.execPath, '--require', old, bin, 'cat'], { input });
  assert.equal(stdout.slice(stdout.indexOf('\n') + 1), input);
});

test('a program that dies of a signal lets the launcher die of the same', async () => {
  const bin = await packageWith('die', { node: '24.16.0' });
  for (const signal of ['SIGTERM', 'SIGKILL']) {
    const outcome = await runProcess([process.execPath, '--require', old, bin, 'die', signal]);
    assert.deepEqual({ exitCode: outcome.exitCode, signal: outcome.signal }, { exitCode: null, signal });
  }
});

test("a signal to the launcher reaches the program, whose exit code is the launcher's", async () => {
  const bin = await packageWith('signal', { node: '24.16.0' });
  const { child } = await waiting(bin);
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  assert.deepEqual(await ended, [41, null]);
});

test('when the launcher is killed, the program is told to stop', async () => {
  const bin = await packageWith('killed', { node: '24.16.0' });
  const { child, pid } = await waiting(bin);
  assert.notEqual(pid, child.pid);
  child.kill('SIGKILL');
  await eventually(() => readdir(`/proc/${pid}/task`).then(isNotZombie(pid), () => false), (alive) => !alive);
});

/** Starts the probe under an old Node and waits until it waits. */
async function waiting(bin: string): Promise<{ child: ReturnType<typeof start>; pid: number }> {
  const child = start([process.execPath, '--require', old, bin, 'wait'], { stdio: ['ignore', 'pipe', 'inherit'] });
  assert.ok(child.stdout !== null);
  const [line] = await once(createInterface({ input: child.stdout }), 'line');
  await new Promise((resolve) => setTimeout(resolve, 100));
  return { child, pid: JSON.parse(line).pid };
}

function isNotZombie(pid: number): () => Promise<boolean> {
  return async () => !/^State:\t[ZX]/m.test(await readFile(`/proc/${pid}/status`, 'utf8'));
}
