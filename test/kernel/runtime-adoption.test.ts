/** Workloads outlive the agent: an agent is killed, the next one adopts, nothing runs twice and no exit code is lost. */
import { strict as assert } from 'node:assert';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import { start } from '../../src/drivers/exec.ts';
import { openProcessRuntime, type ProcessSpec } from '../../src/runtime/process.ts';
import { readRun } from '../../src/runtime/supervisor.ts';
import { openFixture, pidsOf, signal, until, untilObserved, type Fixture } from '../runtime/process-fixture.ts';
import { enterNamespace } from './namespace.ts';

await enterNamespace();
const AGENT = fileURLToPath(new URL('../runtime/agent-stand-in.ts', import.meta.url));

/** Starts an agent, and kills it so long after it is ready, or once it has told that all are started. */
async function runAgentAndKillIt({ directory, state }: Fixture, specs: readonly ProcessSpec[], killAfterMs?: number): Promise<void> {
  const agent = start([process.execPath, AGENT, JSON.stringify({ directory, hide: [state], specs })], { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  agent.stdout?.setEncoding('utf8').on('data', (text: string) => (said += text));
  const closed = once(agent, 'exit');
  await until(() => (said.startsWith('ready\n') ? true : undefined));
  if (killAfterMs === undefined) await until(() => (said.split('\n').length > 2 ? true : undefined), () => said);
  else await new Promise((resolve) => setTimeout(resolve, killAfterMs));
  agent.kill('SIGKILL');
  await closed;
}

test('a workload goes on when its agent is killed, and the next agent adopts it', async (t) => {
  const fixture = await openFixture(t);
  const wanted = await fixture.spec('b0000001', ['sh', '-c', 'while :; do echo tick; sleep 0.05; done'], { restart: 'always' });
  await runAgentAndKillIt(fixture, [wanted]);
  const before = await readRun(join(fixture.directory, wanted.id));
  await fixture.runtime.adopt([wanted], signal);
  const adopted = fixture.runtime.observe().get(wanted.id);
  assert.deepEqual([adopted?.state, adopted?.pid, adopted?.restarts], ['running', before?.pid, 0]);
  assert.equal((await fixture.runtime.start(wanted, signal)).pid, before?.pid);
  const count = (await fixture.runtime.logs(wanted.id, 1000)).length;
  await until(async () => ((await fixture.runtime.logs(wanted.id, 1000)).length > count ? true : undefined));
  // The policy goes on: its end is noticed without being anyone's child, and it is run again.
  process.kill(adopted?.pid ?? 0, 'SIGTERM');
  const again = await untilObserved(fixture.runtime, wanted.id, ({ state, restarts }) => state === 'running' && restarts === 1);
  assert.notEqual(again.pid, before?.pid);
});

test('exit codes of what ended while no agent lived are known to the next one, which runs nothing before it is asked to', async (t) => {
  const fixture = await openFixture(t);
  const once7 = await fixture.spec('b1000001', ['sh', '-c', 'sleep 0.7; exit 7']);
  const always = await fixture.spec('b1000002', ['sh', '-c', 'sleep 0.7; exit 8'], { restart: 'always' });
  await runAgentAndKillIt(fixture, [once7, always]);
  for (const { id } of [once7, always]) await until(async () => ((await readRun(join(fixture.directory, id)))?.phase === 'ended' ? true : undefined));
  await fixture.runtime.adopt([once7, always], signal);
  const known = fixture.runtime.observe();
  assert.deepEqual([known.get(once7.id)?.state, known.get(once7.id)?.exitCode], ['exited', 7]);
  assert.deepEqual([known.get(always.id)?.state, known.get(always.id)?.exitCode], ['restarting', 8]);
  // Longer than the first delay of a restart.
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.equal((await readRun(join(fixture.directory, always.id)))?.run, 1);
  const again = await fixture.runtime.start(always, signal);
  assert.deepEqual([again.state, again.restarts], ['running', 1]);
  // From now on the policy counts.
  await untilObserved(fixture.runtime, always.id, ({ restarts }) => restarts >= 2);
  assert.equal((await fixture.runtime.start(once7, signal)).state, 'exited');
});

test('what ends between adoption and start waits for the start', async (t) => {
  const fixture = await openFixture(t);
  const wanted = await fixture.spec('b1100001', ['sleep', '7654397'], { restart: 'always' });
  await runAgentAndKillIt(fixture, [wanted]);
  await fixture.runtime.adopt([wanted], signal);
  assert.equal(fixture.runtime.observe().get(wanted.id)?.state, 'running');
  process.kill(fixture.runtime.observe().get(wanted.id)?.pid ?? 0, 'SIGTERM');
  const ended = await untilObserved(fixture.runtime, wanted.id, ({ state }) => state === 'restarting');
  assert.equal(ended.exitCode, 143);
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.deepEqual(await pidsOf('^sleep 7654397'), []);
  const again = await fixture.runtime.start(wanted, signal);
  assert.deepEqual([again.state, again.restarts], ['running', 1]);
});

test('what is to be stopped is never started again', async (t) => {
  const fixture = await openFixture(t);
  const wanted = await fixture.spec('b1200001', ['sh', '-c', 'echo run; exit 9'], { restart: 'always' });
  await runAgentAndKillIt(fixture, [wanted], 0);
  await fixture.runtime.start(wanted, signal);
  await untilObserved(fixture.runtime, wanted.id, ({ state }) => state === 'restarting');
  const stopping = { ...wanted, stopping: true };
  const told = await fixture.runtime.start(stopping, signal);
  assert.deepEqual([told.state, told.exitCode], ['exited', 9]);
  const next = await fixture.reopen();
  await next.adopt([stopping], signal);
  assert.equal(next.observe().get(wanted.id)?.state, 'exited');
  const { restarts } = await next.start(stopping, signal);
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.deepEqual(['exited', restarts], [next.observe().get(wanted.id)?.state, (await readRun(join(fixture.directory, wanted.id)))?.restarts]);
  const never = await fixture.spec('b1200002', ['true']);
  assert.equal((await next.start({ ...never, stopping: true }, signal)).state, 'exited');
});

test('where nothing may be started, what lives is adopted and what ends stays ended', async (t) => {
  const startRefusal = 'this host runs no processes';
  const fixture = await openFixture(t);
  const lives = await fixture.spec('b1300001', ['sleep', '7654396'], { restart: 'always' });
  const ended = await fixture.spec('b1300002', ['sh', '-c', 'sleep 0.7; exit 6'], { restart: 'always' });
  await runAgentAndKillIt(fixture, [lives, ended]);
  await until(async () => ((await readRun(join(fixture.directory, ended.id)))?.phase === 'ended' ? true : undefined));
  const refusing = await openProcessRuntime({ directory: fixture.directory, hide: [fixture.state], pollMs: 200, startRefusal });
  t.after(() => refusing.close());
  await refusing.adopt([lives, ended], signal);
  const seen = (id: string): unknown[] => [refusing.observe().get(id)?.state, refusing.observe().get(id)?.message, refusing.observe().get(id)?.exitCode];
  assert.deepEqual([seen(lives.id), seen(ended.id)], [['running', undefined, undefined], ['failed', startRefusal, 6]]);
  assert.equal((await refusing.start(lives, signal)).state, 'running');
  const dead = await refusing.start(ended, signal);
  assert.deepEqual([dead.state, dead.message, dead.exitCode], ['failed', startRefusal, 6]);
  const never = await refusing.start(await fixture.spec('b1300003', ['true']), signal);
  assert.deepEqual([never.state, never.message], ['failed', startRefusal]);
  process.kill(refusing.observe().get(lives.id)?.pid ?? 0, 'SIGTERM');
  await untilObserved(refusing, lives.id, ({ state, message }) => state === 'failed' && message === startRefusal);
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.deepEqual([await pidsOf('^sleep 7654396'), (await readRun(join(fixture.directory, ended.id)))?.run], [[], 1]);
});

test('a relative directory counts from where the agent is', async (t) => {
  const fixture = await openFixture(t);
  const wanted = await fixture.spec('b1400001', ['echo', 'here']);
  const before = process.cwd();
  t.after(() => process.chdir(before));
  process.chdir(fixture.state);
  const runtime = await openProcessRuntime({ directory: 'workloads', hide: [fixture.state] });
  t.after(() => runtime.close());
  process.chdir('/');
  await runtime.start(wanted, signal);
  await untilObserved(runtime, wanted.id, ({ state }) => state === 'exited');
  assert.deepEqual(await fixture.runtime.logs(wanted.id, 1), ['here']);
});

test('killed at any moment of a start, the agent leaves at most one process, and the next one makes it exactly one', async (t) => {
  const fixture = await openFixture(t);
  const moments = [0, 2, 5, 8, 12, 16, 20, 30, 40, 60, 80, 120];
  for (const [index, killAfterMs] of moments.entries()) {
    const id = `b20000${String(index).padStart(2, '0')}`;
    const mark = `8765${String(index).padStart(2, '0')}`;
    const wanted = await fixture.spec(id, ['sh', '-c', `echo run >>/run/ran-${mark}; exec sleep ${mark}`]);
    await runAgentAndKillIt(fixture, [wanted], killAfterMs);
    const next = await fixture.reopen();
    await next.adopt([wanted], signal);
    assert.equal((await next.start(wanted, signal)).state, 'running');
    await until(async () => ((await pidsOf(`^sleep ${mark}`)).length === 1 ? true : undefined));
    await new Promise((resolve) => setTimeout(resolve, 150));
    assert.equal((await pidsOf(`^sleep ${mark}`)).length, 1, `killed after ${killAfterMs} ms`);
    await next.stop(id, { graceMs: 5000 }, signal);
    await next.close();
    assert.deepEqual(await pidsOf(mark), []);
  }
});

test('a number runs at most once: a late supervisor of a run that has ended does nothing', async (t) => {
  const fixture = await openFixture(t);
  const wanted = await fixture.spec('b3000001', ['sh', '-c', 'echo run']);
  await fixture.runtime.start(wanted, signal);
  await untilObserved(fixture.runtime, wanted.id, ({ state }) => state === 'exited');
  const folder = join(fixture.directory, wanted.id);
  const script = fileURLToPath(new URL('../../src/runtime/supervise.sh', import.meta.url));
  await writeFile(join(folder, 'env'), '');
  const late = start(['/bin/sh', script, folder, '1', '0', '1000000', wanted.netns, '-', '--', ...wanted.command], { stdio: 'ignore' });
  const [exitCode] = await once(late, 'exit');
  assert.equal(exitCode, 75);
  assert.deepEqual(await fixture.runtime.logs(wanted.id, 10), ['run']);
});

test('a pid that was given again is not mistaken for the workload, nor is a record from before a reboot', async (t) => {
  const fixture = await openFixture(t);
  const wanted = await fixture.spec('b4000001', ['sleep', '600']);
  const folder = join(fixture.directory, wanted.id);
  await mkdir(folder, { recursive: true });
  const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  // This very process lives, with another start time; then with its own, under another boot.
  const stat = await readFile('/proc/self/stat', 'utf8');
  const own = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  for (const [startTime, bootId] of [['1', boot], [own, '00000000-0000-0000-0000-000000000000']]) {
    await writeFile(join(folder, 'run'), `1 ${process.pid} ${startTime} ${bootId} 0\n`);
    await writeFile(join(folder, 'started'), 'started\n');
    assert.deepEqual([(await readRun(folder))?.phase, (await readRun(folder))?.exitCode], ['ended', 137]);
  }
  await writeFile(join(folder, 'lock'), '');
  await fixture.runtime.stop(wanted.id, { graceMs: 1000 }, signal);
  assert.equal(existsSync(folder), false);
});

test('what has no spec is stopped and removed; foreign files stay', async (t) => {
  const fixture = await openFixture(t);
  await fixture.runtime.start(await fixture.spec('b5000001', ['sleep', '7654399']), signal);
  await writeFile(join(fixture.directory, 'notes'), '');
  await mkdir(join(fixture.directory, 'b5000002'));
  const next = await fixture.reopen();
  await next.adopt([], signal);
  assert.deepEqual([await pidsOf('7654399'), await readdir(fixture.directory), next.observe().size], [[], ['notes'], 0]);
});

test('closing the runtime stops nothing', async (t) => {
  const fixture = await openFixture(t);
  const wanted = await fixture.spec('b6000001', ['sleep', '7654398']);
  await fixture.runtime.start(wanted, signal);
  await fixture.runtime.close();
  await until(async () => ((await pidsOf('^sleep 7654398')).length === 1 ? true : undefined));
  await assert.rejects(fixture.runtime.start(wanted, signal), { code: 'CANCELLED' });
});
