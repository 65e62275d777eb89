/** Pieces that the managers' plans share: create, replace and delete a record by compare-and-set, and its namespace. */
import { ClawError, type ErrorCode } from '../errors.ts';
import type { Compare, StoreOp } from '../store/store.ts';
import type { World } from './world.ts';

export interface Change {
  readonly compares: readonly Compare[];
  readonly ops: readonly StoreOp[];
}

/** At most this many objects of one kind: answers, compile steps and tests are made for it. */
export const MAX_OBJECTS = 10_000;

/**
 * Writes the record if its key is free, and its namespace with it: anew if it does not exist yet, else as it is, so that
 * another agent that deletes the namespace at the same time loses its compare.
 */
export function createRecord(world: World, key: string, value: unknown): Change {
  const [, namespace = ''] = key.split('/');
  const namespaceKey = `namespaces/${namespace}`;
  const known = world.desired.namespaces.get(namespaceKey);
  if (known === undefined) requireRoom(world.desired.namespaces, 'namespaces', 'namespace');
  return {
    compares: [
      { key, modRevision: 0 },
      { key: namespaceKey, modRevision: world.modRevision(namespaceKey) },
    ],
    ops: [
      { type: 'put', key, value },
      { type: 'put', key: namespaceKey, value: known ?? { v: 1, name: namespace, labels: {}, createdAt: world.now().toISOString() } },
    ],
  };
}

/** Writes the record if nobody changed it since the state was read. */
export function replaceRecord(world: World, key: string, value: unknown): Change {
  return { compares: [{ key, modRevision: world.modRevision(key) }], ops: [{ type: 'put', key, value }] };
}

/** Deletes the record if nobody changed it since the state was read. */
export function deleteRecord(world: World, key: string): Change {
  return { compares: [{ key, modRevision: world.modRevision(key) }], ops: [{ type: 'delete', key }] };
}

/** One change of several. What more than one of them writes, such as their namespace, is written as the last of them has it. */
export function together(...changes: readonly Change[]): Change {
  const compares = changes.flatMap((change) => change.compares);
  const ops = changes.flatMap((change) => change.ops);
  return { compares: [...new Map(compares.map((compare) => [compare.key, compare])).values()], ops: [...new Map(ops.map((op) => [op.key, op])).values()] };
}

/** Throws LIMIT_EXCEEDED when there are as many as there can be; `path` is the argument that would have named one more. */
export function requireRoom(records: ReadonlyMap<string, unknown>, kind: string, path = 'name'): void {
  if (records.size < MAX_OBJECTS) return;
  const remedy = kind === 'workloads' ? 'Stop' : 'Delete';
  throw new ClawError('LIMIT_EXCEEDED', `there are ${records.size} ${kind}, and ${MAX_OBJECTS} is the most`, { path, hint: `${remedy} ${kind} that are no longer needed.` });
}

const NOUNS: Readonly<Record<string, string>> = { ingresses: 'ingress', policies: 'network policy' };

/** The record, or an error that names the command which lists what exists. */
export function requireRecord<Item>(
  records: ReadonlyMap<string, Item>,
  key: string,
  missing: { readonly code: ErrorCode; readonly listWith: string },
): Item {
  const record = records.get(key);
  if (record !== undefined) return record;
  const [kind = '', ...rest] = key.split('/');
  const noun = NOUNS[kind] ?? kind.slice(0, -1);
  throw new ClawError(missing.code, `there is no ${noun} ${rest.join('/')}`, { path: 'name', hint: `${missing.listWith} shows what exists.` });
}
