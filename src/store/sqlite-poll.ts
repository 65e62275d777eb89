/** The store's clock: tells of other processes' writes and of leases whose time is over; it writes nothing itself. */
import { isBusy } from './sqlite-errors.ts';
import { integer } from './sqlite-rows.ts';
import type { Statements } from './sqlite-statements.ts';

interface PollEvents {
  /** Another process has written. */
  readonly changed: () => void;
  /** A lease's time is over. */
  readonly expired: () => Promise<void>;
  readonly failed: (error: unknown) => void;
}

/** Looks at the clock and at SQLite's counter of foreign writes (a microsecond each time); it keeps no process alive. */
export function startPoll(statements: Statements, pollMs: number, events: PollEvents): { leasesChanged: () => void; stop: () => void } {
  let seenVersion = 0;
  let nextExpiryMs: number | undefined;
  let expiring = false;
  const expire = async (): Promise<void> => {
    expiring = true;
    try {
      await events.expired();
    } catch (error) {
      events.failed(error);
    } finally {
      expiring = false;
      nextExpiryMs = undefined;
    }
  };
  const tick = (): void => {
    try {
      const version = integer(statements.dataVersion.get(), 'data_version');
      if (version !== seenVersion) {
        seenVersion = version;
        nextExpiryMs = undefined;
        events.changed();
      }
      nextExpiryMs ??= readNextExpiry(statements);
    } catch (error) {
      if (!isBusy(error)) events.failed(error);
      return;
    }
    if (!expiring && Date.now() >= nextExpiryMs) void expire();
  };
  const timer = setInterval(tick, pollMs).unref();
  return { leasesChanged: () => (nextExpiryMs = undefined), stop: () => clearInterval(timer) };
}

function readNextExpiry(statements: Statements): number {
  const row = statements.nextExpiry.get();
  return row?.['at_ms'] === null ? Number.POSITIVE_INFINITY : integer(row, 'at_ms');
}
