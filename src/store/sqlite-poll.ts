/** The store's clock: tells of other processes' writes and of leases whose time is over; it writes nothing itself. */
import { watch, type FSWatcher } from 'node:fs';
import { isBusy } from './sqlite-errors.ts';
import { integer } from './sqlite-rows.ts';
import type { Statements } from './sqlite-statements.ts';

/** After the log file has changed the store is looked at every `pollMs` for this long. */
const ALERT_MS = 1_000;

interface PollOptions {
  /** The write-ahead log: SQLite appends to it before a commit counts. It exists as long as a connection is open. */
  readonly logFile: string;
  /** Between two looks while the log moves, and while it rests: a wake-up costs far more than the look itself. */
  readonly pollMs: number;
  readonly restMs: number;
  /** Another process has written. */
  readonly changed: () => void;
  /** A lease's time is over. */
  readonly expired: () => Promise<void>;
  readonly failed: (error: unknown) => void;
}

/**
 * Looks at SQLite's counter of foreign writes and at the clock, often while the log file moves, seldom while it rests.
 * The file's events alone would not do: the last one comes before the commit that it belongs to. Keeps no process alive.
 */
export function startPoll(statements: Statements, options: PollOptions): { leasesChanged: () => void; stop: () => void } {
  const { logFile, pollMs, restMs, changed, expired, failed } = options;
  let alertUntilMs = performance.now() + ALERT_MS;
  let seenVersion = 0;
  let nextExpiryMs: number | undefined;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;

  const wait = (delayMs: number): void => {
    clearTimeout(timer);
    timer = stopped ? undefined : setTimeout(() => void tick(), delayMs).unref();
  };
  const tick = async (): Promise<void> => {
    try {
      const version = integer(statements.dataVersion.get(), 'data_version');
      if (version !== seenVersion) {
        seenVersion = version;
        nextExpiryMs = undefined;
        changed();
      }
      nextExpiryMs ??= readNextExpiry(statements);
      if (Date.now() >= nextExpiryMs) {
        nextExpiryMs = undefined;
        await expired();
      }
    } catch (error) {
      if (!isBusy(error)) failed(error);
    }
    const alert = !watched || performance.now() < alertUntilMs;
    const untilExpiryMs = Math.max(pollMs, (nextExpiryMs ?? 0) - Date.now());
    wait(Math.min(alert ? pollMs : restMs, untilExpiryMs));
  };
  const rouse = (): void => {
    const resting = performance.now() >= alertUntilMs;
    alertUntilMs = performance.now() + ALERT_MS;
    if (resting) wait(1);
  };
  const watcher = watchFile(logFile, rouse);
  // Without file events, such as when the user's inotify watches are used up, the store is simply looked at often.
  let watched = watcher !== undefined;
  watcher?.on('error', () => {
    watched = false;
    rouse();
  });
  wait(pollMs);
  return {
    leasesChanged: () => {
      nextExpiryMs = undefined;
      rouse();
    },
    stop: () => {
      stopped = true;
      watcher?.close();
      clearTimeout(timer);
    },
  };
}

function watchFile(file: string, changed: () => void): FSWatcher | undefined {
  try {
    return watch(file, { persistent: false }, changed);
  } catch {
    return undefined;
  }
}

function readNextExpiry(statements: Statements): number {
  const row = statements.nextExpiry.get();
  return row?.['at_ms'] === null ? Number.POSITIVE_INFINITY : integer(row, 'at_ms');
}
