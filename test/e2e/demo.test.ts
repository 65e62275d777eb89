/** `clawnode demo` as people run it: every step is seen, nothing is left, and a machine that cannot do it is told why. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { start, type Argv } from '../../src/drivers/exec.ts';
import { toolsInScope } from '../../src/surfaces/tool-scope.ts';
import { asOrdinaryUser, checkout } from '../cli/sandbox-fixture.ts';

const DEMO: Argv = [process.execPath, join(checkout, 'bin', 'clawnode.js'), 'demo'];

test('every step is observed, in plain text where there is no terminal', async () => {
  const { exitCode, output } = await toEnd(DEMO);
  assert.equal(exitCode, 0, output);
  for (const seen of [
    new RegExp(`${toolsInScope({ toolsets: ['default'] }).length} tools; mode sandbox`),
    /all three answer, on 10\.200\.1\.\d+, /,
    /INVALID_ARGUMENT at port/,
    /10\.201\.0\.1:80 is live: the kernel holds 3 DNAT rules/,
    /through the ClusterIP: 300 of 300 answered/,
    /through the ingress: 300 of 300 answered/,
    /ClusterIP: moved (at once|within \d+ ms)/,
    /ingress: moved (at once|within \d+ ms)/,
    /two healthy endpoints are left/,
    /10\.201\.0\.1 refuses connections/,
    /answered with 404/,
    /the kernel is clean/,
    /Every step was observed, in \d+\.\d s\.\n\n$/,
  ]) {
    assert.match(output, seen);
  }
  assert.ok(!output.includes('\u001B'), 'colour without a terminal');
  assert.doesNotMatch(output, /✘/);
});

test('an ordinary user sees the same', async () => {
  const { exitCode, output } = await toEnd(asOrdinaryUser(DEMO));
  assert.equal(exitCode, 0, output);
});

test('where user namespaces are off it fails, and says which setting it is', async () => {
  const script = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"';
  const { exitCode, output } = await toEnd(['unshare', '--user', '--map-root-user', 'sh', '-c', script, 'sh', ...DEMO]);
  assert.equal(exitCode, 1, output);
  assert.match(output, /✘ the demo could not go on/);
  assert.match(output, /SANDBOX_UNAVAILABLE/);
  assert.match(output, /max_user_namespaces/);
  assert.doesNotMatch(output, /Every step was observed/);
});

test('Ctrl-C ends it early with the code of the signal', async () => {
  const child = start(DEMO, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  let output = '';
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
    if (!output.includes('all three answer') && (output + chunk).includes('all three answer')) child.kill('SIGINT');
    output += chunk;
  });
  assert.deepEqual(await ended, [130, null], output);
  assert.doesNotMatch(output, /Every step was observed/);
});

test('a reader that goes away ends it, with nothing left behind', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'claw-demo-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const child = start(DEMO, { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, TMPDIR: folder } });
  const ended = once(child, 'exit');
  child.stdout?.once('data', () => child.stdout?.destroy());
  assert.deepEqual(await ended, [1, null]);
  assert.deepEqual(await readdir(folder), []);
});

async function toEnd(argv: Argv): Promise<{ exitCode: unknown; output: string }> {
  const child = start(argv, { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = once(child, 'close');
  const [stdout, stderr] = await Promise.all([text(child.stdout ?? assert.fail()), text(child.stderr ?? assert.fail())]);
  const [exitCode] = await ended;
  return { exitCode, output: stdout + stderr };
}
