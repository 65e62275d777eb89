/** Long-running parts of the real OpenClaw host for tests: a gateway or a node host that ends with the test that started it. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { start } from '../../src/drivers/exec.ts';
import type { CommandOptions, OpenClawHost } from './openclaw-host.ts';

const READY_TIMEOUT_MS = 2 * 60_000;

/** Something that ends, such as a test, and what is to be done then. */
export interface Ending {
  readonly after: (work: () => Promise<void>) => void;
}

/** Runs until the test is over; its end is waited for, so that nothing is left when the home is removed. */
export function startHost(t: Ending, host: OpenClawHost, { args, ...options }: CommandOptions & { args: readonly string[] }): void {
  // The host starts itself again as a child, so the whole group is what has to end.
  const child = start(host.argv(args), { stdio: 'ignore', detached: true, env: host.env(options) });
  const { pid } = child;
  assert.ok(pid !== undefined);
  const ended = once(child, 'exit');
  t.after(async () => {
    signalGroup(pid, 'SIGTERM');
    await Promise.race([ended, sleep(15_000, undefined, { ref: false })]);
    signalGroup(pid, 'SIGKILL');
  });
}

/** Looks every 250 ms until it is so; throws what was seen last when it never is. */
export async function until<T>(look: () => Promise<T>, holds: (seen: T) => boolean = Boolean): Promise<T> {
  const deadline = performance.now() + READY_TIMEOUT_MS;
  for (;;) {
    const seen = await look();
    if (holds(seen)) return seen;
    if (performance.now() > deadline) throw new Error(`still not so after ${READY_TIMEOUT_MS} ms: ${JSON.stringify(seen)}`);
    await sleep(250);
  }
}

/** A port of 127.0.0.1 that nobody listens on now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  server.close();
  await once(server, 'close');
  return address.port;
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    // Nobody is left in the group.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}
