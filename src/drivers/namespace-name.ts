/** Gives network namespaces that others made a name of ours below /run/netns, after a look at what they are; it never makes or ends a namespace. */
import { constants, type BigIntStats } from 'node:fs';
import { open, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { ClawError } from '../errors.ts';
import { ProcessError, run } from './exec.ts';
import { ipBatch } from './ip-command.ts';
import { NETNS_FOLDER, ownNamespaces } from './link.ts';

export interface NamespaceNames {
  /**
   * Makes `name` stand for the network namespace behind `path`: one below /run/netns, or /proc/PID/ns/net. `isStill` is asked once the
   * file is open, because a pid may have become another process's meanwhile. Throws `INVALID_ARGUMENT` for what is no network
   * namespace, `NOT_ALLOWED` for the machine's own, and `CONFLICT` for one that is a workload already.
   */
  give(name: string, source: NamespaceSource, signal: AbortSignal): Promise<void>;
  /** Looks only: throws what `give` would. */
  check(asked: Asked, signal: AbortSignal): Promise<void>;
  /** Whether `name` stands for the namespace behind `path` now. */
  isSame(name: string, path: string): Promise<boolean>;
  exists(path: string): Promise<boolean>;
}

export interface NamespaceSource {
  readonly path: string;
  readonly isStill?: () => Promise<boolean>;
}

export interface Asked {
  readonly path: string;
  /** The argument that the path came from, and what to call it in a message. */
  readonly argument: string;
  readonly called: string;
}

export function openNamespaceNames(): NamespaceNames {
  return {
    give: async (name, { path, isStill }, signal) => {
      const asked = { path, argument: 'netns', called: path };
      await using file = await openFile(asked);
      if (isStill !== undefined && !(await isStill())) throw new ClawError('WORKLOAD_FAILED', 'its container ended just now');
      await requireForeign(file, { ...asked, name }, signal);
      const target = join(NETNS_FOLDER, name);
      if (await isSameFile(target, await file.stat({ bigint: true }))) return;
      const { netns } = await ownNamespaces();
      // With the first name that `ip` makes it mounts the folder anew: a name that was mounted before could never be deleted.
      await ipBatch([...(netns.includes(name) ? [`netns del ${name}`] : []), `netns add ${name}`], { signal });
      await run(['umount', target], { signal });
      // By the open file: whatever the path has come to mean, this is what was looked at.
      await run(['mount', '--no-canonicalize', '--bind', pathOf(file), target], { signal });
    },
    check: async (asked, signal) => {
      await using file = await openFile(asked);
      await requireForeign(file, asked, signal);
    },
    exists: async (path) => (await statIfThere(path)) !== undefined,
    isSame: async (name, path) => {
      const behind = await statIfThere(path);
      return behind !== undefined && (await isSameFile(join(NETNS_FOLDER, name), behind));
    },
  };
}

async function openFile({ path, argument, called }: Asked): Promise<FileHandle> {
  // /proc/PID/ns/net is a link by nature, and made by the kernel.
  const follow = path.startsWith('/proc/') ? 0 : constants.O_NOFOLLOW;
  try {
    return await open(path, constants.O_RDONLY | constants.O_NONBLOCK | follow);
  } catch (error) {
    throw new ClawError('INVALID_ARGUMENT', `${called} can not be opened: ${error instanceof Error ? error.message : String(error)}`, {
      path: argument,
      hint: '`ip netns list` shows the names below /run/netns.',
      cause: error,
    });
  }
}

async function requireForeign(file: FileHandle, asked: Asked & { readonly name?: string }, signal: AbortSignal): Promise<void> {
  await requireNetwork(file, asked, signal);
  const { argument, called, name } = asked;
  const held = await file.stat({ bigint: true });
  for (const own of ['/proc/self/ns/net', '/proc/1/ns/net']) {
    if (await isSameFile(own, held)) throw new ClawError('NOT_ALLOWED', `${called} is the machine's own network`, { path: argument, hint: 'Only a network of its own can get an address.' });
  }
  for (const other of (await ownNamespaces()).netns) {
    if (other === name || !(await isSameFile(join(NETNS_FOLDER, other), held))) continue;
    throw new ClawError('CONFLICT', `${called} is a workload already`, { path: argument, hint: 'workload.list shows it; workload.detach gives an attached one free.' });
  }
}

/** The kernel tells: it lets nobody enter anything else as a network. */
async function requireNetwork(file: FileHandle, { argument, called }: Asked, signal: AbortSignal): Promise<void> {
  try {
    await run(['nsenter', `--net=${pathOf(file)}`, 'true'], { signal });
  } catch (error) {
    if (!(error instanceof ProcessError)) throw error;
    throw new ClawError('INVALID_ARGUMENT', `${called} is no network namespace`, { path: argument, hint: '`ip netns list` shows the names below /run/netns.', cause: error });
  }
}

function pathOf(file: FileHandle): string {
  return `/proc/${process.pid}/fd/${file.fd}`;
}

async function isSameFile(path: string, { dev, ino }: BigIntStats): Promise<boolean> {
  const found = await statIfThere(path);
  return found?.dev === dev && found.ino === ino;
}

async function statIfThere(path: string): Promise<BigIntStats | undefined> {
  try {
    return await stat(path, { bigint: true });
  } catch {
    // Gone, or the process behind it is: either way it stands for no namespace.
    return undefined;
  }
}
