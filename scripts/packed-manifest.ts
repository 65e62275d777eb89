/** package.json as it is packed: without the optional dependencies, which only bring a checkout its Node.js. It never packs. */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { z } from 'zod';

const root = resolve(import.meta.dirname, '..');
const MANIFEST = join(root, 'package.json');
/** Exists exactly while package.json is stripped. Its name is not in `files`. */
const KEPT = join(root, 'package.json.unpacked');

const manifestSchema = z.record(z.string(), z.unknown());
const keptSchema = z.object({ pid: z.number(), original: z.string(), stripped: z.string() });

/**
 * Strips package.json and keeps what it was. `pid` is the process that packs.
 * Throws when another one packs this checkout; what one left behind that died is put back first.
 */
export function stripManifest(pid: number): void {
  const earlier = readKept();
  if (earlier !== undefined && earlier.pid !== pid && isAlive(earlier.pid)) throw new Error(`process ${earlier.pid} packs this checkout already`);
  restoreManifest();
  const original = readFileSync(MANIFEST, 'utf8');
  const { optionalDependencies: _, ...rest } = manifestSchema.parse(JSON.parse(original));
  const stripped = `${JSON.stringify(rest, null, 2)}\n`;
  replace(KEPT, JSON.stringify({ pid, original, stripped }));
  replace(MANIFEST, stripped);
}

/** Puts package.json back; does nothing when it is not stripped. Throws when somebody edited it meanwhile, and then leaves both. */
export function restoreManifest(): void {
  const kept = readKept();
  if (kept === undefined) return;
  const now = readFileSync(MANIFEST, 'utf8');
  if (now !== kept.stripped && now !== kept.original) {
    throw new Error(`package.json was edited while it was packed; what it was before is in ${KEPT}: put the optionalDependencies back and delete that file`);
  }
  replace(MANIFEST, kept.original);
  rmSync(KEPT, { force: true });
}

/** The process for whose sake package.json is stripped, or undefined while it is whole. */
export function strippedFor(): number | undefined {
  return readKept()?.pid;
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}

function readKept(): z.infer<typeof keptSchema> | undefined {
  try {
    return keptSchema.parse(JSON.parse(readFileSync(KEPT, 'utf8')));
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

/** A reader sees the old text or the new one, never half of it. */
function replace(path: string, text: string): void {
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
}
