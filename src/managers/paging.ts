/** Pages of a list in key order; the cursor is the last key of the page before, so that changes in between lose nothing. */
import { ClawError } from '../errors.ts';

interface PageRequest {
  readonly limit: number;
  readonly cursor?: string | undefined;
  readonly namespace?: string | undefined;
}

export interface Page<Item> {
  readonly count: number;
  readonly items: readonly Item[];
  readonly nextCursor?: string;
}

/** `records` are keyed `kind/namespace/name` (or `namespaces/name`). `count` is the total before paging. */
export function page<Item>(records: ReadonlyMap<string, Item>, { limit, cursor, namespace }: PageRequest): Page<Item> {
  const keys = [...records.keys()].filter((key) => namespace === undefined || key.split('/')[1] === namespace).toSorted();
  const after = cursor === undefined ? '' : decode(cursor);
  const rest = keys.filter((key) => key > after);
  const shown = rest.slice(0, limit);
  const last = shown.at(-1);
  return {
    count: keys.length,
    items: shown.flatMap((key) => records.get(key) ?? []),
    ...(rest.length > shown.length && last !== undefined ? { nextCursor: Buffer.from(last).toString('base64url') } : {}),
  };
}

function decode(cursor: string): string {
  const key = Buffer.from(cursor, 'base64url').toString();
  if (!/^[a-z]+\/[-a-z0-9/]+$/.test(key)) {
    throw new ClawError('INVALID_ARGUMENT', `${JSON.stringify(cursor)} is no cursor`, { path: 'cursor', hint: 'Give nextCursor of the page before, or leave it out.' });
  }
  return key;
}
