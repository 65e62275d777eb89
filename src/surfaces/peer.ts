/** Names the process at the other end of a unix socket, for the audit log; nothing is ever decided by it. */
import { readlink } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { run } from '../drivers/exec.ts';

/** `node[4711]`, or `unknown`: the other end may have gone, or be in a pid namespace that this one does not see. */
export async function peerOf(socket: Socket): Promise<string> {
  try {
    const inode = await inodeOf(socket);
    if (inode === undefined) return 'unknown';
    const { stdout } = await run(['ss', '-xpH'], { timeoutMs: 2000 });
    return peerIn(stdout, inode) ?? 'unknown';
  } catch {
    // Not knowing the peer must not fail the call; the entry says `unknown`.
    return 'unknown';
  }
}

/** Finds in the lines of `ss -xpH` who holds the socket that is connected to the one with this inode. */
export function peerIn(lines: string, inode: string): string | undefined {
  const sockets = lines.split('\n').map((line) => line.trim().split(/\s+/));
  // Columns: type, state, receive and send queue, local address and inode, peer address and inode, users.
  const peerInode = sockets.find((columns) => columns[5] === inode)?.[7];
  const users = sockets.find((columns) => columns[5] === peerInode)?.[8];
  const [, name, pid] = /"([^"]*)",pid=(\d+)/.exec(users ?? '') ?? [];
  return name === undefined ? undefined : `${name}[${pid ?? ''}]`;
}

/** Node has no public way to a socket's descriptor; where its handle has none, the peer stays unknown. */
async function inodeOf(socket: Socket): Promise<string | undefined> {
  const handle: unknown = Reflect.get(socket, '_handle');
  const descriptor: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : undefined;
  if (typeof descriptor !== 'number' || descriptor < 0) return undefined;
  return /^socket:\[(\d+)\]$/.exec(await readlink(`/proc/self/fd/${descriptor}`))?.[1];
}
