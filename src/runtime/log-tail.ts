/** Reads the end of a process's log and makes it safe to show: bounded lines of text without control sequences. It never reads a whole log. */
import { open } from 'node:fs/promises';
import { join } from 'node:path';

/** So much of the end is read, however many lines are asked for. */
const TAIL_BYTES = 1024 * 1024;
const LINE_CHARACTERS = 4096;
// Operating system commands and other strings end in BEL or ST; then come CSI sequences and the two-byte ones.
// oxlint-disable-next-line no-control-regex -- Terminal sequences are what it looks for.
const ANSI = /\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b[ -/]*[0-~]/g;
/** Controls but tab; marks that reorder, hide or break text for the reader: bidi, zero width, separators, byte order. */
// oxlint-disable-next-line no-control-regex -- Terminal sequences are what it looks for.
const HIDDEN = /[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** The last `tail` lines of the log in this directory, oldest first; empty when there is none. */
export async function readLogTail(directory: string, tail: number): Promise<string[]> {
  const current = await readEnd(join(directory, 'log', 'current'), TAIL_BYTES);
  const missing = TAIL_BYTES - current.bytes.length;
  const previous = current.whole && missing > 0 ? await readEnd(join(directory, 'log', 'previous'), missing) : { bytes: Buffer.alloc(0), whole: current.whole };
  const lines = Buffer.concat([previous.bytes, current.bytes]).toString('utf8').split('\n');
  if (lines.at(-1) === '') lines.pop();
  // The first one began before what was read.
  if (!previous.whole && lines.length > 1) lines.shift();
  return tail <= 0 ? [] : lines.slice(-tail).map(cleanLine);
}

/** A line without control sequences, at most 4096 characters. */
export function cleanLine(line: string): string {
  const clean = line.replaceAll(ANSI, '').replaceAll(HIDDEN, '');
  return clean.length <= LINE_CHARACTERS ? clean : `${clean.slice(0, LINE_CHARACTERS).toWellFormed()}…`;
}

async function readEnd(path: string, most: number): Promise<{ bytes: Buffer; whole: boolean }> {
  try {
    await using file = await open(path, 'r');
    const { size } = await file.stat();
    const from = Math.max(0, size - most);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(size - from), 0, size - from, from);
    return { bytes: buffer.subarray(0, bytesRead), whole: from === 0 };
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return { bytes: Buffer.alloc(0), whole: true };
    throw error;
  }
}
