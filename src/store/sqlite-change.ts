/** What happens inside one write transaction: compares, changes, events, compaction, ended leases; it never opens or commits one. */
import { ClawError } from '../errors.ts';
import { checkKey } from './sqlite-keys.ts';
import { integer, text } from './sqlite-rows.ts';
import type { Statements } from './sqlite-statements.ts';
import type { Compare, StoreOp, TxnResult } from './store.ts';

/** An operation checked and turned into text before the write lock is taken. */
export type Change =
  | { readonly key: string; readonly value: string; readonly lease: string | null }
  | { readonly key: string; readonly value: null };

export interface ChangeContext {
  readonly statements: Statements;
  readonly keepRevisions: number;
  readonly nowMs: number;
}

/** The ops as changes. Throws ClawError on a key that stands twice, a bad key or a value that JSON cannot hold. */
export function toChanges(ops: readonly StoreOp[]): readonly Change[] {
  const seen = new Set<string>();
  return ops.map((op) => {
    checkKey(op.key);
    if (seen.has(op.key)) throw new ClawError('INTERNAL', `a transaction names the key ${op.key} twice`);
    seen.add(op.key);
    return op.type === 'delete' ? { key: op.key, value: null } : { key: op.key, value: toJson(op.key, op.value), lease: op.lease ?? null };
  });
}

/** Writes the changes when all compares hold. */
export function compareAndChange(context: ChangeContext, compares: readonly Compare[], changes: readonly Change[]): TxnResult {
  const result = compareOnly(context.statements, compares);
  return result.committed ? { committed: true, revision: change(context, changes) } : result;
}

/** Whether all compares hold, and the present revision. */
export function compareOnly({ modRevision, head }: Statements, compares: readonly Compare[]): TxnResult {
  const failed = compares.filter(({ key, modRevision: wanted }) => {
    const row = modRevision.get(key);
    return wanted !== (row === undefined ? 0 : integer(row, 'mod_revision'));
  });
  const revision = integer(head.get(), 'revision');
  return failed.length === 0 ? { committed: true, revision } : { committed: false, revision, conflicts: [...new Set(failed.map(({ key }) => key))] };
}

/** Ends every lease whose time is over: its keys are deleted in one transaction. */
export function expireLeases(context: ChangeContext): void {
  for (const row of context.statements.expiredLeases.all(context.nowMs)) endLease(context, text(row, 'id'));
}

/** Ends one lease and deletes its keys; a lease that has already ended changes nothing. */
export function endLease(context: ChangeContext, id: string): void {
  const keys = context.statements.keysOfLease.all(id).map((row) => text(row, 'key'));
  change(
    context,
    keys.map((key) => ({ key, value: null })),
  );
  context.statements.dropLease.run(id);
}

/** Writes items and events under the next revision and returns it; what changes nothing leaves the revision as it is. */
function change(context: ChangeContext, changes: readonly Change[]): number {
  const { statements } = context;
  const head = statements.head.get();
  const revision = integer(head, 'revision') + 1;
  let events = 0;
  for (const one of changes) {
    const written = one.value === null ? statements.delete.get(one.key) : put(context, one, revision);
    // A deletion of a key that does not exist is no event.
    if (written === undefined) continue;
    statements.addEvent.run(revision, events, one.key, one.value, integer(written, 'create_revision'));
    events += 1;
  }
  if (events === 0) return revision - 1;
  statements.setRevision.run(revision);
  compact(context, revision, integer(head, 'compacted'));
  return revision;
}

function put({ statements, nowMs }: ChangeContext, { key, value, lease }: Extract<Change, { value: string }>, revision: number) {
  if (lease !== null && statements.liveLease.get(lease, nowMs) === undefined) {
    throw new ClawError('CONFLICT', `the lease of ${key} has ended`, { hint: 'Take a new lease and write the key again.' });
  }
  return statements.put.get(key, value, revision, lease);
}

/** Drops events in bundles: their removal then costs each write a little, and none of them much. */
function compact({ statements, keepRevisions }: ChangeContext, revision: number, compacted: number): void {
  const bundle = Math.min(256, Math.ceil(keepRevisions / 10));
  const oldest = revision - keepRevisions;
  if (oldest - compacted < bundle) return;
  statements.dropEvents.run(oldest);
  statements.setCompacted.run(oldest);
}

function toJson(key: string, value: unknown): string {
  // For undefined and functions JSON.stringify answers undefined, whatever its type says.
  const json: string | undefined = JSON.stringify(value);
  if (json === undefined) throw new ClawError('INTERNAL', `the value of ${key} has no JSON form`);
  return json;
}
