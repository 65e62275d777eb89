/** The life of workload processes: exit codes, signals, restarts, logs, and who dies with whom. */
import { strict as assert } from 'node:assert';
import { existsSync, readFileSync } from 'node:fs';
import { readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { holdersOf } from '../../src/runtime/process-table.ts';
import { openFixture, outputOf, pidsOf, signal, until, untilObserved } from '../runtime/process-fixture.ts';
import { enterNamespace } from './namespace.ts';

await enterNamespace();

test('an exit code is kept, 128 + n for a signal; a start after the end does not run it again', async (t) => {
  const { runtime, spec, state } = await openFixture(t);
  for (const [id, script, exitCode] of [['a0000001', 'exit 0', 0], ['a0000002', 'exit 7', 7], ['a0000003', 'kill -SEGV $$', 139], ['a0000004', 'kill -TERM $$', 143], ['a0000005', 'exit 127', 127]] as const) {
    const wanted = await spec(id, ['sh', '-c', script]);
    await runtime.start(wanted, signal);
    assert.equal((await untilObserved(runtime, id, (one) => one.state === 'exited')).exitCode, exitCode);
    const again = await runtime.start(wanted, signal);
    assert.deepEqual([again.state, again.exitCode, again.restarts], ['exited', exitCode, 0]);
  }
  assert.ok(existsSync(join(state, 'secret')));
});

test('the first and last words of a command that ends at once are in its log', async (t) => {
  const fixture = await openFixture(t);
  for (let count = 0; count < 20; count++) assert.deepEqual(await outputOf(fixture, `a10000${String(count).padStart(2, '0')}`, 'echo out; echo error >&2'), ['out', 'error']);
});

test('a command that cannot be run has failed and says why; so has one without a network namespace', async (t) => {
  const { runtime, spec, state } = await openFixture(t);
  const missing = await runtime.start(await spec('a2000001', ['no-such-program', 'x']), signal);
  assert.deepEqual([missing.state, missing.exitCode, missing.message], ['failed', 127, 'no-such-program: command not found']);
  await writeFile('/run/plain-file', 'x');
  const empty = await runtime.start(await spec('a2000006', ['']), signal);
  assert.deepEqual([empty.state, empty.exitCode, empty.message], ['failed', 127, '"": command not found']);
  const plain = await runtime.start(await spec('a2000002', ['/run/plain-file']), signal);
  assert.deepEqual([plain.state, plain.exitCode, plain.message], ['failed', 126, '/run/plain-file: not an executable file']);
  const hidden = await runtime.start(await spec('a2000003', [join(state, 'secret')]), signal);
  assert.deepEqual([hidden.state, hidden.exitCode], ['failed', 127]);
  const nowhere = await runtime.start({ ...(await spec('a2000004', ['true'])), netns: '/run/netns/claw-none' }, signal);
  assert.equal(nowhere.state, 'failed');
  assert.match(nowhere.message ?? '', /claw-none/);
  const badName = await runtime.start(await spec('a2000005', ['true'], { env: { 'a b': '' } }), signal);
  assert.match(badName.message ?? '', /"a b" is no name/);
});

test('a command or an environment that the kernel does not take has failed and says so', async (t) => {
  const { runtime, spec } = await openFixture(t);
  const long = await runtime.start(await spec('a2200001', ['echo', 'x'.repeat(200_000)]), signal);
  assert.deepEqual([long.state, long.message], ['failed', 'argument list too long: argument 1 has 200000 bytes, at most 131040 can be given']);
  const many = await runtime.start(await spec('a2200002', ['echo', ...Array.from({ length: 20 }, () => 'x'.repeat(100_000))]), signal);
  assert.match(`${many.state}: ${many.message}`, /^failed: argument list too long: .* 2000193 bytes, at most 1900000/);
  const variable = await runtime.start(await spec('a2200003', ['true'], { env: { BIG: 'x'.repeat(200_000) } }), signal);
  assert.match(`${variable.state}: ${variable.message}`, /^failed: argument list too long: BIG has 200004 bytes/);
  const nul = await runtime.start(await spec('a2200004', ['echo', 'a\0b']), signal);
  assert.deepEqual([nul.state, nul.message], ['failed', 'argument 1 holds a NUL']);
});

test('the longest command and environment that are taken do run', async (t) => {
  const fixture = await openFixture(t);
  const most = 131_040;
  const names = Array.from({ length: 1000 }, (_, index) => String(index).padStart(100, 'V'));
  const env = { ...Object.fromEntries(names.slice(0, 993).map((name) => [name, ''])), ...Object.fromEntries('ABCDEFG'.split('').map((name) => [name, 'v'.repeat(most - 2)])) };
  const script = 'cat /proc/self/environ | tr -cd v | wc -c; echo "${#1}"';
  const wanted = await fixture.spec('a2300001', ['sh', '-c', script, 'sh', ...Array.from({ length: 6 }, () => 'x'.repeat(most))], { env });
  assert.equal((await fixture.runtime.start(wanted, signal)).message, undefined);
  await untilObserved(fixture.runtime, wanted.id, ({ state }) => state === 'exited');
  assert.deepEqual(await fixture.runtime.logs(wanted.id, 9), [String(7 * (most - 2)), String(most)]);
});

test('one that never ran is tried again by a later start', async (t) => {
  const { runtime, spec } = await openFixture(t);
  const wanted = await spec('a2100001', ['/run/comes-later']);
  assert.equal((await runtime.start(wanted, signal)).state, 'failed');
  await writeFile('/run/comes-later', '#!/bin/sh\nsleep 600\n', { mode: 0o755 });
  await until(async () => ((await runtime.start(wanted, signal)).state === 'running' ? true : undefined));
});

test('stop: TERM reaches the command, which may end in its own way; nothing is left', async (t) => {
  const { runtime, spec, directory } = await openFixture(t);
  const script = 'trap "echo bye >/run/farewell; exit 0" TERM; while :; do sleep 0.05; done';
  assert.equal((await runtime.start(await spec('a3000001', ['sh', '-c', script]), signal)).state, 'running');
  assert.equal((await runtime.start(await spec('a3000002', ['sleep', '7654321']), signal)).state, 'running');
  await Promise.all(['a3000001', 'a3000002'].map((id) => runtime.stop(id, { graceMs: 15_000 }, signal)));
  assert.equal(readFileSync('/run/farewell', 'utf8'), 'bye\n');
  assert.deepEqual([await pidsOf('sleep 7654321'), await readdir(directory), runtime.observe().size], [[], [], 0]);
  await runtime.stop('a3000001', { graceMs: 0 }, signal);
  await runtime.stop('a3ffffff', { graceMs: 0 }, signal);
});

test('stop: who ignores TERM is killed after the grace, with its daemons', async (t) => {
  const { runtime, spec } = await openFixture(t);
  const script = 'trap "" TERM; setsid setsid sleep 7654322 & while :; do sleep 7654322; done';
  await runtime.start(await spec('a3100001', ['sh', '-c', script]), signal);
  await until(async () => ((await pidsOf('^sleep 7654322')).length === 2 ? true : undefined));
  const startedAt = performance.now();
  await runtime.stop('a3100001', { graceMs: 300 }, signal);
  assert.ok(performance.now() - startedAt >= 300);
  assert.deepEqual(await pidsOf('7654322'), []);
});

test('daemons end with the command, and orphans are reaped while it runs', async (t) => {
  const { runtime, spec } = await openFixture(t);
  const script = 'for i in 1 2 3 4 5; do (sleep 0.01 & ) ; done; setsid sleep 7654323 & sleep 0.5; cat /proc/[0-9]*/status | grep -c "^State:.Z"; exit 3';
  await runtime.start(await spec('a4000001', ['sh', '-c', script]), signal);
  assert.equal((await untilObserved(runtime, 'a4000001', ({ state }) => state === 'exited')).exitCode, 3);
  assert.deepEqual(await runtime.logs('a4000001', 1), ['0']);
  assert.deepEqual(await pidsOf('7654323'), []);
});

test('INT works on the command although a shell started it in the background', async (t) => {
  const { runtime, spec } = await openFixture(t);
  const { pid } = await runtime.start(await spec('a4100001', ['sleep', '600']), signal);
  process.kill(pid ?? 0, 'SIGINT');
  assert.equal((await untilObserved(runtime, 'a4100001', ({ state }) => state === 'exited')).exitCode, 130);
});

test('the death of the supervisor is the death of the workload, and is noticed', async (t) => {
  const { runtime, spec } = await openFixture(t);
  const changed: string[] = [];
  runtime.onChange((id) => changed.push(id));
  const { pid } = await runtime.start(await spec('a5000001', ['sleep', '7654324']), signal);
  process.kill(pid ?? 0, 'SIGKILL');
  assert.equal((await untilObserved(runtime, 'a5000001', ({ state }) => state === 'exited')).exitCode, 137);
  await until(async () => ((await pidsOf('^sleep 7654324')).length === 0 ? true : undefined));
  assert.deepEqual(changed, ['a5000001']);
});

test('restart always: run again with growing delays, counted, until it is stopped', async (t) => {
  const { runtime, spec } = await openFixture(t);
  await runtime.start(await spec('a6000001', ['sh', '-c', 'echo run; exit 4'], { restart: 'always' }), signal);
  const seen = await untilObserved(runtime, 'a6000001', ({ state, restarts }) => state === 'restarting' && restarts >= 3);
  assert.equal(seen.exitCode, 4);
  assert.ok((await runtime.logs('a6000001', 100)).length >= 3);
  await runtime.stop('a6000001', { graceMs: 1000 }, signal);
  assert.equal(runtime.observe().has('a6000001'), false);
});

test('two starts at once give one process; a stop during a start leaves none', async (t) => {
  const { runtime, spec, reopen, directory } = await openFixture(t);
  const other = await reopen();
  const wanted = await spec('a7000001', ['sleep', '7654325']);
  const started = await Promise.all([runtime.start(wanted, signal), runtime.start(wanted, signal), other.start(wanted, signal)]);
  await until(async () => ((await pidsOf('^sleep 7654325')).length === 1 ? true : undefined));
  assert.ok(started.some(({ state }) => state === 'running'));
  for (const waitMs of [0, 5, 15, 30, 60]) {
    const start = runtime.start(await spec('a7000002', ['sleep', '7654326']), signal).then(() => 'started', () => 'cancelled');
    await new Promise((resolve) => setTimeout(resolve, waitMs));
    await runtime.stop('a7000002', { graceMs: 5000 }, signal);
    assert.match(await start, /started|cancelled/);
    assert.deepEqual([await pidsOf('7654326'), existsSync(join(directory, 'a7000002'))], [[], false]);
  }
});

test('a log is bounded without any help of the agent, and its end is kept', async (t) => {
  const { runtime, spec, directory } = await openFixture(t, { logBytes: 200_000 });
  await runtime.start(await spec('a8000001', ['sh', '-c', 'seq 1 200000']), signal);
  await untilObserved(runtime, 'a8000001', ({ state }) => state === 'exited');
  for (const name of ['current', 'previous']) assert.ok((await stat(join(directory, 'a8000001/log', name))).size <= 200_000);
  const lines = await runtime.logs('a8000001', 5000);
  assert.equal(lines.join(), Array.from({ length: 5000 }, (_, index) => String(195_001 + index)).join());
});

test('many short writes reach the log at once and never break the pipe', async (t) => {
  const { runtime, spec } = await openFixture(t, { logBytes: 131_072 });
  const script = 'i=0; while [ $i -lt 9000 ]; do i=$((i+1)); echo "line $i"; done; sleep 600';
  await runtime.start(await spec('a8100001', ['sh', '-c', script]), signal);
  await until(async () => ((await runtime.logs('a8100001', 1))[0] === 'line 9000' ? true : undefined));
  assert.equal(runtime.observe().get('a8100001')?.state, 'running');
  assert.deepEqual(await runtime.logs('a8100001', 2), ['line 8999', 'line 9000']);
});

test('the files of a workload are the agent\'s alone and hold no environment', async (t) => {
  const { runtime, spec, directory } = await openFixture(t);
  await runtime.start(await spec('a9000001', ['sleep', '600'], { env: { TOKEN: 'very-secret' } }), signal);
  const folder = join(directory, 'a9000001');
  assert.equal((await stat(folder)).mode & 0o077, 0);
  for (const name of await readdir(folder)) if (name !== 'log') assert.doesNotMatch(readFileSync(join(folder, name), 'utf8'), /very-secret/);
  assert.ok(holdersOf(join(folder, 'lock')).length >= 3);
  assert.deepEqual(await pidsOf('very-secret'), []);
});

test('an id that is none is refused', async (t) => {
  const { runtime } = await openFixture(t);
  await assert.rejects(runtime.stop('../../etc', { graceMs: 0 }, signal), { code: 'INVALID_ARGUMENT' });
});
