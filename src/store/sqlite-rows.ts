/** Reads columns of SQLite rows with their types checked, and turns rows into items and events; it never runs SQL. */
import type { SQLOutputValue } from 'node:sqlite';
import { ClawError } from '../errors.ts';
import type { StoreEvent, StoreItem } from './store.ts';

export type Row = Readonly<Record<string, SQLOutputValue>>;

export function integer(row: Row | undefined, column: string): number {
  const value = row?.[column];
  return typeof value === 'number' ? value : wrongType(column, value);
}

export function text(row: Row | undefined, column: string): string {
  const value = row?.[column];
  return typeof value === 'string' ? value : wrongType(column, value);
}

export function toItem(row: Row): StoreItem {
  return {
    key: text(row, 'key'),
    value: parsed(row),
    modRevision: integer(row, 'mod_revision'),
    createRevision: integer(row, 'create_revision'),
  };
}

/** An event without a value is a deletion. */
export function toEvent(row: Row): StoreEvent {
  const key = text(row, 'key');
  const modRevision = integer(row, 'revision');
  if (row['value'] === null) return { type: 'delete', key, modRevision };
  return { type: 'put', item: { key, value: parsed(row), modRevision, createRevision: integer(row, 'create_revision') } };
}

function parsed(row: Row): unknown {
  try {
    const value: unknown = JSON.parse(text(row, 'value'));
    return value;
  } catch (error) {
    throw new ClawError('STORE_FAILED', `the store holds a value at ${text(row, 'key')} that is not JSON`, { cause: error });
  }
}

function wrongType(column: string, value: unknown): never {
  throw new ClawError('STORE_FAILED', `the store holds a ${value === null ? 'null' : typeof value} in column ${column}`, {
    hint: 'The store file is damaged: restore a copy of it.',
  });
}
