/** Which keys and prefixes a store accepts, and the key range that a prefix covers; it never touches a database. */
import { ClawError } from '../errors.ts';

/** Greater than any text: SQLite orders every blob after every text. */
const AFTER_ALL_TEXT = new Uint8Array();
const LAST_CODE_POINT = 0x10ffff;

/** Bounds of `key >= from AND key < to` that hold for exactly the keys with this prefix. */
export function keyRange(prefix: string): { from: string; to: string | Uint8Array } {
  checkText(prefix);
  return { from: prefix, to: successor(prefix) };
}

export function checkKey(key: string): void {
  if (key === '') throw new ClawError('INTERNAL', 'a store key must not be empty');
  checkText(key);
}

/** Half a surrogate pair has no UTF-8 form and a NUL ends a C string: two such keys could fall together. */
function checkText(key: string): void {
  if (!key.isWellFormed() || key.includes('\0')) throw new ClawError('INTERNAL', `${JSON.stringify(key)} cannot be a store key`);
}

/** The least text that is greater than every text with this prefix: its last code point that can grow, grown by one. */
function successor(prefix: string): string | Uint8Array {
  const points = Array.from(prefix, (character) => character.codePointAt(0) ?? 0);
  const grown = points.findLastIndex((point) => point < LAST_CODE_POINT);
  const last = points[grown];
  if (last === undefined) return AFTER_ALL_TEXT;
  // The code points from D800 to DFFF are halves of surrogate pairs and stand for no character.
  const next = last === 0xd7ff ? 0xe000 : last + 1;
  return String.fromCodePoint(...points.slice(0, grown), next);
}
