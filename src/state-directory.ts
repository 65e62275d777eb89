/** What belongs to one agent at a time, the state directory and the kernel it programs: keeps every other agent out while this one lives. */
import { mkdir, readFile, readlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { ClawError } from './errors.ts';

export interface StateDirectory {
  readonly store: string;
  readonly auditLog: string;
  readonly workloads: string;
  readonly proxy: string;
  /** Where ulogd finds its configuration and hands over events. */
  readonly flows: string;
  /** Which Docker Engine holds containers of this node. */
  readonly docker: string;
  /** Who this node is, for as long as the store holds something of it. */
  readonly identity: string;
  release(): void;
}

/** Throws AGENT_ALREADY_RUNNING, naming the pid, when another agent holds the directory. */
export async function takeStateDirectory(path: string): Promise<StateDirectory> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  const lock = await takeLock({
    path: join(path, 'lock'),
    pidFile: join(path, 'agent.pid'),
    what: `the state directory ${path}`,
    hint: 'Stop it first: `clawnode status` shows whether it answers.',
  });
  return {
    store: join(path, 'store.db'),
    auditLog: join(path, 'audit.log'),
    workloads: join(path, 'workloads'),
    proxy: join(path, 'proxy'),
    flows: join(path, 'flows'),
    docker: join(path, 'docker.json'),
    identity: join(path, 'node.json'),
    release: () => lock.close(),
  };
}

/** Where the locks of kernels lie: fixed, so that agents with other paths of their own meet here. Not for workloads to see. */
export const KERNEL_LOCK_DIRECTORY = '/run/clawnode';

/**
 * Two agents in one network namespace would remove each other's rules and links as leftovers, whatever their state
 * directories and sockets. Throws AGENT_ALREADY_RUNNING, naming the pid, while another one lives.
 */
export async function takeKernel(): Promise<{ release(): void }> {
  // `net:[4026531840]`: the number is the namespace's own while it lives.
  const namespace = (await readlink('/proc/self/ns/net')).replaceAll(/\D/g, '');
  await mkdir(KERNEL_LOCK_DIRECTORY, { recursive: true, mode: 0o755 });
  const lock = await takeLock({
    path: join(KERNEL_LOCK_DIRECTORY, `kernel-${namespace}.lock`),
    pidFile: join(KERNEL_LOCK_DIRECTORY, `kernel-${namespace}.pid`),
    what: "this machine's kernel",
    hint: 'Stop it first, use it (`clawnode status`), or try things out beside it with `clawnode sandbox`.',
  });
  return { release: () => lock.close() };
}

interface Lock {
  readonly path: string;
  readonly pidFile: string;
  /** What it protects, for the message. */
  readonly what: string;
  readonly hint: string;
}

/**
 * Node has no file locks, but SQLite has: a record lock of the kernel, which ends with the process however it dies. The
 * pid beside it is only for the message.
 */
async function takeLock({ path, pidFile, what, hint }: Lock): Promise<DatabaseSync> {
  // Made here with a narrow mode: whoever can open the file could lock it.
  await writeFile(path, '', { flag: 'a', mode: 0o600 });
  const lock = new DatabaseSync(path, { timeout: 0 });
  try {
    lock.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE');
  } catch (error) {
    lock.close();
    if (!(error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY)) {
      throw new ClawError('STORE_FAILED', `${path} can not be locked: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    }
    const pid = await readFile(pidFile, 'utf8').catch(() => 'unknown');
    throw new ClawError('AGENT_ALREADY_RUNNING', `another agent (pid ${pid.trim()}) holds ${what}`, { hint, cause: error });
  }
  await writeFile(pidFile, `${process.pid}\n`, { mode: 0o600 });
  return lock;
}

const SQLITE_BUSY = 5;
