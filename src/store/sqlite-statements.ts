/** All SQL of a running store, prepared once, and the two kinds of transaction around it; it decides nothing. */
import type { DatabaseSync } from 'node:sqlite';

export type Statements = ReturnType<typeof prepareStatements>;

export function prepareStatements(db: DatabaseSync) {
  return {
    db,
    begin: db.prepare('BEGIN'),
    // The write lock is taken at once: a transaction that reads first and then finds another writer could only start again.
    beginWrite: db.prepare('BEGIN IMMEDIATE'),
    commit: db.prepare('COMMIT'),
    rollback: db.prepare('ROLLBACK'),
    dataVersion: db.prepare('PRAGMA data_version'),

    head: db.prepare('SELECT revision, compacted FROM head'),
    setRevision: db.prepare('UPDATE head SET revision = ?'),
    setCompacted: db.prepare('UPDATE head SET compacted = ?'),

    get: db.prepare('SELECT key, value, mod_revision, create_revision FROM items WHERE key = ?'),
    list: db.prepare('SELECT key, value, mod_revision, create_revision FROM items WHERE key >= ? AND key < ? ORDER BY key'),
    modRevision: db.prepare('SELECT mod_revision FROM items WHERE key = ?'),
    put: db.prepare(`
      INSERT INTO items (key, value, mod_revision, create_revision, lease) VALUES (?1, ?2, ?3, ?3, ?4)
      ON CONFLICT (key) DO UPDATE SET value = excluded.value, mod_revision = excluded.mod_revision, lease = excluded.lease
      RETURNING create_revision`),
    delete: db.prepare('DELETE FROM items WHERE key = ? RETURNING create_revision'),

    addEvent: db.prepare('INSERT INTO events (revision, place, key, value, create_revision) VALUES (?, ?, ?, ?, ?)'),
    events: db.prepare(`
      SELECT revision, key, value, create_revision FROM events
      WHERE revision > ? AND revision <= ? AND key >= ? AND key < ? ORDER BY revision, place`),
    dropEvents: db.prepare('DELETE FROM events WHERE revision <= ?'),

    addLease: db.prepare('INSERT INTO leases (id, ttl_ms, expires_at_ms) VALUES (?1, ?2, ?2 + ?3)'),
    liveLease: db.prepare('SELECT id FROM leases WHERE id = ? AND expires_at_ms > ?'),
    prolongLease: db.prepare('UPDATE leases SET expires_at_ms = ?2 + ttl_ms WHERE id = ?1 AND expires_at_ms > ?2'),
    dropLease: db.prepare('DELETE FROM leases WHERE id = ?'),
    expiredLeases: db.prepare('SELECT id FROM leases WHERE expires_at_ms <= ? ORDER BY expires_at_ms, id'),
    nextExpiry: db.prepare('SELECT min(expires_at_ms) AS at_ms FROM leases'),
    keysOfLease: db.prepare('SELECT key FROM items WHERE lease = ? ORDER BY key'),
  };
}

/** Everything that `work` reads is of one moment. */
export function reading<T>(statements: Statements, work: () => T): T {
  statements.begin.run();
  return ending(statements, work);
}

/** All that `work` writes, or nothing, durable on return. */
export function writing<T>(statements: Statements, work: () => T): T {
  statements.beginWrite.run();
  return ending(statements, work);
}

function ending<T>({ db, commit, rollback }: Statements, work: () => T): T {
  try {
    const result = work();
    commit.run();
    return result;
  } catch (error) {
    // SQLite has already rolled back by itself after some errors, such as a full disk.
    if (db.isTransaction) rollback.run();
    throw error;
  }
}
