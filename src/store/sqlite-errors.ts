/** What SQLite's errors mean to us: retried, or a ClawError with a next step; it never touches a database. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ClawError } from '../errors.ts';
import { Compacted } from './store.ts';

/** Primary result codes, https://www.sqlite.org/rescode.html; the upper bits of an extended code only refine them. */
const BUSY = 5;
const LOCKED = 6;
const CANNOT_OPEN = 14;
const HINTS: ReadonlyMap<number, string> = new Map([
  [8, 'Make the store file and its directory writable for this user.'],
  [10, 'Check the disk: `dmesg` tells of its errors.'],
  [11, 'Move the file away (keep it) and restore a copy of it; it is never overwritten.'],
  [13, 'Free space on the disk that holds the store.'],
  [CANNOT_OPEN, 'Create the directory of the store and make it writable for this user.'],
  [26, 'Name another store file; this one is left as it is.'],
]);

/** Another process may hold the lock for this long before a call gives up. */
const BUSY_LIMIT_MS = 10_000;
const LONGEST_PAUSE_MS = 25;

/** What SQLite or the file system threw, as a ClawError `STORE_FAILED` that names the file; what is ours already passes through. */
export function storeFailed(path: string, error: unknown): Error {
  if (error instanceof ClawError || error instanceof Compacted) return error;
  const hint = HINTS.get(resultCode(error)) ?? 'The log has the cause.';
  const message = error instanceof Error ? error.message : String(error);
  return new ClawError('STORE_FAILED', `the store ${path} failed: ${message}`, { hint, cause: error });
}

/**
 * Runs `work` and again, after a pause that leaves the event loop free, while another process holds the lock.
 * `work` must have undone what it did before it throws. Throws ClawError `STORE_FAILED`.
 */
export async function whenUnlocked<T>(path: string, work: () => T): Promise<T> {
  const startedAt = performance.now();
  for (let pauseMs = 1; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    try {
      return work();
    } catch (error) {
      if (!isBusy(error)) throw storeFailed(path, error);
      if (performance.now() - startedAt > BUSY_LIMIT_MS) {
        throw new ClawError('STORE_FAILED', `another process has held the lock of ${path} for ${BUSY_LIMIT_MS} ms`, {
          hint: `\`fuser ${path}\` names the processes that have it open.`,
          cause: error,
        });
      }
    }
    // Two processes that collided once would collide again after equal pauses.
    await sleep(pauseMs * (0.5 + Math.random()));
  }
}

export function isBusy(error: unknown): boolean {
  const code = resultCode(error);
  return code === BUSY || code === LOCKED;
}

/** SQLite's primary result code; a file that could not be opened before SQLite saw it counts as SQLite's own code for that. */
function resultCode(error: unknown): number {
  if (!(error instanceof Error)) return 0;
  if ('errcode' in error && typeof error.errcode === 'number') return error.errcode & 0xff;
  return 'syscall' in error && error.syscall === 'open' ? CANNOT_OPEN : 0;
}
