/** Reads and writes the files of the service below a root directory; it overwrites nothing that is not as we wrote it. */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ClawError } from '../../../errors.ts';
import { authorOf, UNIT_NAME } from './unit.ts';

export interface ServiceFile {
  readonly path: string;
  readonly text: string;
}

export function unitPath(root: string): string {
  return join(root, 'etc/systemd/system', UNIT_NAME);
}

export function usersPath(root: string): string {
  return join(root, 'etc/sysusers.d/clawnode.conf');
}

/** Undefined when there is none. */
export async function readIfThere(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  });
}

/** Which of the files had to be written. Writes none of them when one is not ours to replace: CONFLICT. */
export async function writeFiles(files: readonly ServiceFile[], { force }: { force: boolean }): Promise<string[]> {
  const stale: ServiceFile[] = [];
  for (const file of files) {
    const there = await readIfThere(file.path);
    if (there === file.text) continue;
    if (there !== undefined && !force) refuseForeign(file.path, there, 'replaces');
    stale.push(file);
  }
  for (const { path, text } of stale) {
    await mkdir(dirname(path), { recursive: true, mode: 0o755 });
    // Written beside it and moved, so that systemd never reads half a unit.
    await writeFile(`${path}.new`, text, { mode: 0o644 });
    await rename(`${path}.new`, path);
  }
  return stale.map(({ path }) => path);
}

/** Which of the files are there. CONFLICT when one of them is not ours to remove. */
export async function ownFiles(paths: readonly string[], { force }: { force: boolean }): Promise<string[]> {
  const there: string[] = [];
  for (const path of paths) {
    const text = await readIfThere(path);
    if (text === undefined) continue;
    if (!force) refuseForeign(path, text, 'removes');
    there.push(path);
  }
  return there;
}

function refuseForeign(path: string, text: string, verb: 'replaces' | 'removes'): void {
  const author = authorOf(text);
  if (author === 'us') return;
  const what = author === 'edited' ? `${path} was edited by hand` : `${path} was not written by clawnode`;
  throw new ClawError('CONFLICT', what, {
    hint: `Keep changes in a drop-in (\`systemctl edit clawnode\`) and move the file away, or give --force, which ${verb} it.`,
  });
}
