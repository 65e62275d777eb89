/** Clears the way for a unix socket: a file that a dead process left is removed, one that somebody answers on is not. */
import { lstat, unlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { ClawError } from '../errors.ts';

/** Throws ClawError `CONFLICT` when the path belongs to a living process or is no socket. */
export async function claimSocketPath(path: string): Promise<void> {
  const found = await lstat(path).catch(missingIsFree);
  if (found === undefined) return;
  if (!found.isSocket()) throw new ClawError('CONFLICT', `${path} exists and is not a socket`, { hint: 'Choose another path or move the file away.' });
  if (await isAnswered(path)) throw new ClawError('CONFLICT', `another process serves ${path}`, { hint: 'Stop that process first.' });
  await unlink(path).catch(missingIsFree);
}

function missingIsFree(error: unknown): undefined {
  if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
  throw error;
}

/** Only ECONNREFUSED proves that nobody listens; any other failure could be a busy or foreign process. */
function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error) => resolve(!('code' in error && (error.code === 'ECONNREFUSED' || error.code === 'ENOENT'))));
  });
}
