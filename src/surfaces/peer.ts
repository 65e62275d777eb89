/** Names the process at the other end of a unix socket, for the audit log; nothing is ever decided by it. */
import { readFile, readlink } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { basename } from 'node:path';
import { run } from '../drivers/exec.ts';

/**
 * A lookup that gives `uid 0 clawnode.js[4711]`, or `unknown`: the other end may have gone, or be in a pid namespace that this
 * one does not see. Connections that come while one `ss` runs share the next.
 */
export function createPeerLookup(): (socket: Socket) => Promise<string> {
  let running: Promise<string> | undefined;
  let next: Promise<string> | undefined;
  const list = async (): Promise<string> => {
    try {
      return (await run(['ss', '-xpH'], { timeoutMs: 2000 })).stdout;
    } finally {
      running = undefined;
    }
  };
  /** One at a time: whoever connects while one runs is not in it and shares the next. */
  const listing = (): Promise<string> => {
    if (running === undefined) {
      running = list();
      return running;
    }
    next ??= running
      .catch(() => '')
      .then(() => {
        next = undefined;
        running = list();
        return running;
      });
    return next;
  };
  return async (socket) => {
    try {
      const inode = await inodeOf(socket);
      const pid = inode === undefined ? undefined : peerPid(await listing(), inode);
      return pid === undefined ? 'unknown' : await describe(pid);
    } catch {
      // Not knowing the peer must not fail the call; the entry says `unknown`.
      return 'unknown';
    }
  };
}

/** Finds in the lines of `ss -xpH` the process that holds the socket which is connected to the one with this inode. */
export function peerPid(lines: string, inode: string): number | undefined {
  const sockets = lines.split('\n').map((line) => line.trim().split(/\s+/));
  // Columns: type, state, receive and send queue, local address and inode, peer address and inode, users.
  const peerInode = sockets.find((columns) => columns[5] === inode)?.[7];
  const users = sockets.find((columns) => columns[5] === peerInode)?.slice(8).join(' ') ?? '';
  // A process may call itself anything, also `x",pid=1`: only the last pid is ss's own.
  const pid = [...users.matchAll(/,pid=(\d+),fd=\d+\)/g)].at(-1)?.[1];
  return pid === undefined ? undefined : Number(pid);
}

async function describe(pid: number): Promise<string> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const [program = '', script = ''] = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0');
  const uid = /^Uid:\s+(\d+)/m.exec(status)?.[1] ?? '?';
  // Of an interpreter its script says more.
  const name = basename(program) === 'node' && script !== '' ? basename(script) : basename(program);
  return `uid ${uid} ${name.replaceAll(/[^\w.-]/g, '?').slice(0, 40)}[${pid}]`;
}

/** Node has no public way to a socket's descriptor; where its handle has none, the peer stays unknown. */
async function inodeOf(socket: Socket): Promise<string | undefined> {
  const handle: unknown = Reflect.get(socket, '_handle');
  const descriptor: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : undefined;
  if (typeof descriptor !== 'number' || descriptor < 0) return undefined;
  return /^socket:\[(\d+)\]$/.exec(await readlink(`/proc/self/fd/${descriptor}`))?.[1];
}
