/** What the runtime's kernel tests share: a state directory, a network namespace per workload, a runtime, and its end. */
import { strict as assert } from 'node:assert';
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { run } from '../../src/drivers/exec.ts';
import { openProcessRuntime, type ObservedProcess, type ProcessRuntime, type ProcessRuntimeOptions, type ProcessSpec } from '../../src/runtime/process.ts';

export const { signal } = new AbortController();

export interface Fixture {
  readonly state: string;
  readonly directory: string;
  readonly runtime: ProcessRuntime;
  /** A second runtime on the same directory, as the next agent opens it. */
  readonly reopen: () => Promise<ProcessRuntime>;
  readonly spec: (id: string, command: readonly string[], more?: Partial<ProcessSpec>) => Promise<ProcessSpec>;
}

export async function openFixture(t: TestContext, options: Partial<ProcessRuntimeOptions> = {}): Promise<Fixture> {
  const state = await mkdtemp('/run/state-');
  await writeFile(join(state, 'secret'), 'key');
  await mkdir('/run/claw-socket', { recursive: true });
  await writeFile('/run/claw-socket/agent.sock', '');
  const directory = join(state, 'workloads');
  const opened: ProcessRuntime[] = [];
  const ids = new Set<string>();
  const reopen = async (): Promise<ProcessRuntime> => {
    const runtime = await openProcessRuntime({ directory, hide: [state, '/run/claw-socket'], pollMs: 200, ...options });
    opened.push(runtime);
    return runtime;
  };
  const runtime = await reopen();
  t.after(async () => {
    await Promise.all(opened.map((one) => one.close()));
    const last = await reopen();
    await last.adopt([], signal);
    await last.close();
    for (const id of ids) await run(['ip', 'netns', 'delete', `claw-${id}`]);
  });
  const spec: Fixture['spec'] = async (id, command, more = {}) => {
    if (!ids.has(id)) await run(['ip', 'netns', 'add', `claw-${id}`]);
    ids.add(id);
    return { id, command, env: {}, restart: 'no', netns: `/run/netns/claw-${id}`, ...more };
  };
  return { state, directory, runtime, reopen, spec };
}

/** Waits until the process is observed so; says what it was observed as instead. */
export async function untilObserved(runtime: ProcessRuntime, id: string, wanted: (observed: ObservedProcess) => boolean): Promise<ObservedProcess> {
  return until(() => {
    const found = runtime.observe().get(id);
    return found !== undefined && wanted(found) ? found : undefined;
  }, () => JSON.stringify(runtime.observe().get(id)));
}

export async function until<Found>(find: () => Found | undefined | Promise<Found | undefined>, otherwise: () => string = () => 'nothing'): Promise<Found> {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const found = await find();
    if (found !== undefined) return found;
    if (Date.now() > deadline) assert.fail(`after 20 s: ${otherwise()}`);
    await delay(20);
  }
}

/** Runs a shell command to its end as a workload and gives what it wrote. */
export async function outputOf(fixture: Fixture, id: string, script: string, more: Partial<ProcessSpec> = {}): Promise<string[]> {
  await fixture.runtime.start(await fixture.spec(id, ['sh', '-c', script], more), signal);
  await untilObserved(fixture.runtime, id, ({ state }) => state === 'exited');
  return fixture.runtime.logs(id, 1000);
}

/** Pids of this namespace whose command line holds the mark. */
export async function pidsOf(mark: string): Promise<number[]> {
  const { stdout } = await run(['pgrep', '--full', '--', mark], { okExitCodes: [0, 1] });
  return stdout.split('\n').filter((line) => line !== '').map(Number);
}
