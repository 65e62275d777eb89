/** Whether a file that root runs or reads for good lies where only root can change it, and where it stays; it changes nothing. */
import { lstat, realpath } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname } from 'node:path';

/** Emptied by itself, at the next boot at the latest. */
const TEMPORARY = ['/tmp', '/var/tmp', '/run', '/dev/shm', tmpdir()];

/** Why root should not rely on this file, in words; undefined when it may. The path must exist. */
export async function whyUnsafe(path: string): Promise<string | undefined> {
  const real = await realpath(path);
  const temporary = TEMPORARY.find((folder) => real === folder || real.startsWith(`${folder}/`));
  if (temporary !== undefined) return `${real} lies in ${temporary}, which is emptied`;
  if (/\/_npx\//.test(real)) return `${real} lies in a cache of npx, which npm may empty`;
  for (let part = real; ; part = dirname(part)) {
    const { uid, gid, mode } = await lstat(part);
    if (uid !== 0) return `${part} belongs to uid ${uid}, who could change what root runs`;
    if ((mode & 0o002) !== 0) return `everybody may write to ${part}`;
    if ((mode & 0o020) !== 0 && gid !== 0) return `group ${gid} may write to ${part}`;
    if (part === '/') return undefined;
  }
}
