/** The store on one SQLite file that several processes may share; it knows no noun and never changes a file that is not its own. */
import { randomUUID } from 'node:crypto';
import { resolve } from 'node:path';
import { ClawError } from '../errors.ts';
import { compareAndChange, compareOnly, endLease, expireLeases, toChanges, type ChangeContext } from './sqlite-change.ts';
import { storeFailed, whenUnlocked } from './sqlite-errors.ts';
import { openFile } from './sqlite-file.ts';
import { checkKey, keyRange } from './sqlite-keys.ts';
import { startPoll } from './sqlite-poll.ts';
import { integer, toItem } from './sqlite-rows.ts';
import { reading, writing } from './sqlite-statements.ts';
import { createWatches } from './sqlite-watch.ts';
import type { Store } from './store.ts';

export interface SqliteOptions {
  /** Watches can start this many revisions back; 10,000 unless told. */
  readonly keepRevisions?: number;
  /** How often other processes' writes and ended leases are looked for while the file is being written to; 25 ms unless told. */
  readonly pollMs?: number;
  /** The same for a file at rest, in case that its events got lost; 500 ms unless told. */
  readonly restMs?: number;
}

/**
 * Opens the store file, or makes it (mode 0600; its directory must exist). Throws ClawError `STORE_FAILED` when the file
 * is damaged, belongs to another program or has a newer format.
 */
export async function openSqliteStore(path: string, options: SqliteOptions = {}): Promise<Store> {
  const { keepRevisions = 10_000, pollMs = 25, restMs = 500 } = options;
  // A resolved path is never one of SQLite's special names, such as `:memory:`.
  const file = resolve(path);
  const statements = await openFile(file);
  const watches = createWatches(file, statements);
  let closing: Promise<void> | undefined;
  let lastWrite: Promise<unknown> = Promise.resolve();

  const checkOpen = (): void => {
    if (closing !== undefined) throw new ClawError('STORE_FAILED', `the store ${file} is closed`);
  };
  const read = async <T>(work: () => T): Promise<T> => {
    checkOpen();
    return whenUnlocked(file, work);
  };
  /** One after the other, so that the writes of one process commit in the order in which they were asked for. */
  const write = async <T>(work: (context: ChangeContext) => T): Promise<T> => {
    checkOpen();
    const written = lastWrite.then(() =>
      whenUnlocked(file, () => {
        const result = writing(statements, () => work({ statements, keepRevisions, nowMs: Date.now() }));
        watches.wake();
        return result;
      }),
    );
    // The caller gets the error of a failed write; the next write does not depend on it.
    lastWrite = written.catch(() => undefined);
    return written;
  };
  const poll = startPoll(statements, {
    logFile: `${file}-wal`,
    pollMs,
    restMs,
    changed: watches.wake,
    expired: () => write(expireLeases),
    failed: (error) => {
      if (closing === undefined) watches.fail(storeFailed(file, error));
    },
  });

  return {
    async get(key) {
      checkKey(key);
      const row = await read(() => statements.get.get(key));
      return row === undefined ? undefined : toItem(row);
    },
    async list(prefix) {
      const { from, to } = keyRange(prefix);
      const { rows, revision } = await read(() =>
        reading(statements, () => ({ rows: statements.list.all(from, to), revision: integer(statements.head.get(), 'revision') })),
      );
      return { items: rows.map(toItem), revision };
    },
    async txn(compares, ops) {
      for (const { key } of compares) checkKey(key);
      const changes = toChanges(ops);
      // Without ops there is nothing to lock out others for.
      if (changes.length === 0) return read(() => reading(statements, () => compareOnly(statements, compares)));
      return write((context) => compareAndChange(context, compares, changes));
    },
    watch: watches.watch,
    async lease(ttlMs) {
      if (!Number.isInteger(ttlMs) || ttlMs < 1) throw new ClawError('INTERNAL', `a lease of ${ttlMs} ms cannot be given`);
      const id = randomUUID();
      await write(({ nowMs }) => statements.addLease.run(id, ttlMs, nowMs));
      poll.leasesChanged();
      return { id, ttlMs };
    },
    async keepAlive(leaseId) {
      const { changes } = await write(({ nowMs }) => statements.prolongLease.run(leaseId, nowMs));
      return changes === 1;
    },
    async revoke(leaseId) {
      await write((context) => endLease(context, leaseId));
    },
    close() {
      closing ??= finish();
      return closing;
    },
  };

  /** What was asked before is still written. */
  async function finish(): Promise<void> {
    poll.stop();
    watches.end();
    await lastWrite;
    statements.db.close();
  }
}
