/** The store's file: opened, recognised as ours or refused, made when it is new; it never changes a file that is not ours. */
import { chmodSync, closeSync, openSync, statSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { ClawError } from '../errors.ts';
import { storeFailed, whenUnlocked } from './sqlite-errors.ts';
import { integer, text } from './sqlite-rows.ts';
import { prepareStatements, type Statements } from './sqlite-statements.ts';

/** `PRAGMA application_id` of our files: "CLAW" in ASCII. `file` and SQLite show it. */
const APPLICATION_ID = 0x434c4157;
/** `PRAGMA user_version`; raised when the tables change. */
const FORMAT = 1;

/** SQLite itself waits this long for a lock, and blocks the event loop meanwhile; longer waits are whenUnlocked's. */
const BLOCKING_WAIT_MS = 3;

// Text compares as UTF-8 bytes, so keys lie in the order that other stores use too.
const SCHEMA = `
  CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL, compacted INTEGER NOT NULL) STRICT;
  INSERT INTO head VALUES (1, 0, 0);
  CREATE TABLE items (
    key TEXT PRIMARY KEY, value TEXT NOT NULL, mod_revision INTEGER NOT NULL, create_revision INTEGER NOT NULL, lease TEXT
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX items_by_lease ON items (lease) WHERE lease IS NOT NULL;
  CREATE TABLE events (
    revision INTEGER NOT NULL, place INTEGER NOT NULL, key TEXT NOT NULL, value TEXT, create_revision INTEGER NOT NULL,
    PRIMARY KEY (revision, place)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE leases (id TEXT PRIMARY KEY, ttl_ms INTEGER NOT NULL, expires_at_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE INDEX leases_by_expiry ON leases (expires_at_ms);
  PRAGMA application_id = ${APPLICATION_ID};
  PRAGMA user_version = ${FORMAT};
`;

/** Opens the file, or makes it with mode 0600. Throws ClawError `STORE_FAILED` when it is damaged, foreign or of a newer format. */
export async function openFile(path: string): Promise<Statements> {
  let db: DatabaseSync | undefined;
  try {
    // Made here and not by SQLite, so that it never lies there with a wider mode; SQLite gives its other files the same one.
    closeSync(openSync(path, 'a', 0o600));
    db = new DatabaseSync(path, { timeout: BLOCKING_WAIT_MS });
    await prepareFile(path, db);
    return prepareStatements(db);
  } catch (error) {
    db?.close();
    throw storeFailed(path, error);
  }
}

async function prepareFile(path: string, db: DatabaseSync): Promise<void> {
  await whenUnlocked(path, () => recognise(path, db));
  if ((statSync(path).mode & 0o077) !== 0) chmodSync(path, 0o600);
  const mode = await whenUnlocked(path, () => text(db.prepare('PRAGMA journal_mode = WAL').get(), 'journal_mode'));
  if (mode !== 'wal') {
    throw new ClawError('STORE_FAILED', `${path} lies on a file system without shared memory (journal mode ${mode})`, {
      hint: 'Put the state directory on a local disk.',
    });
  }
  // FULL syncs the log at each commit: what was acknowledged survives a power cut too.
  db.exec('PRAGMA synchronous = FULL');
  await whenUnlocked(path, () => create(path, db));
  await whenUnlocked(path, () => checkIntegrity(path, db));
}

/** 'new' for an empty file, 'ours' for one of ours; throws for any other. Only reads. */
function recognise(path: string, db: DatabaseSync): 'new' | 'ours' {
  const application = integer(db.prepare('PRAGMA application_id').get(), 'application_id');
  const format = integer(db.prepare('PRAGMA user_version').get(), 'user_version');
  const tables = integer(db.prepare('SELECT count(*) AS tables FROM sqlite_schema').get(), 'tables');
  if (application === 0 && format === 0 && tables === 0) return 'new';
  if (application !== APPLICATION_ID) {
    throw new ClawError('STORE_FAILED', `${path} is a database of another program`, {
      hint: 'Name another store file; this one is left as it is.',
    });
  }
  if (format > FORMAT) {
    throw new ClawError('STORE_FAILED', `${path} has store format ${format}, this clawnode knows up to ${FORMAT}`, {
      hint: 'Install the clawnode that wrote it, or a newer one.',
    });
  }
  return 'ours';
}

/** Another process may have made the tables since we looked: only the holder of the write lock can tell. */
function create(path: string, db: DatabaseSync): void {
  db.exec('BEGIN IMMEDIATE');
  try {
    if (recognise(path, db) === 'new') db.exec(SCHEMA);
    db.exec('COMMIT');
  } catch (error) {
    if (db.isTransaction) db.exec('ROLLBACK');
    throw error;
  }
}

function checkIntegrity(path: string, db: DatabaseSync): void {
  const finding = text(db.prepare('PRAGMA quick_check(1)').get(), 'quick_check');
  if (finding === 'ok') return;
  throw new ClawError('STORE_FAILED', `${path} is damaged: ${finding}`, {
    hint: 'Move the file away (keep it) and restore a copy of it; it is never overwritten.',
  });
}
