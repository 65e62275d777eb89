/** The directory that belongs to one agent: makes it and keeps every other agent out of it while this one lives. */
import { mkdir, writeFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { ClawError } from './errors.ts';

export interface StateDirectory {
  readonly store: string;
  readonly auditLog: string;
  readonly workloads: string;
  readonly proxy: string;
  release(): void;
}

/** Throws AGENT_ALREADY_RUNNING, naming the pid, when another agent holds the directory. */
export async function takeStateDirectory(path: string): Promise<StateDirectory> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  const lock = await takeLock(path);
  return {
    store: join(path, 'store.db'),
    auditLog: join(path, 'audit.log'),
    workloads: join(path, 'workloads'),
    proxy: join(path, 'proxy'),
    release: () => lock.close(),
  };
}

/**
 * Node has no file locks, but SQLite has: a record lock of the kernel, which ends with the process however it dies. The
 * pid beside it is only for the message.
 */
async function takeLock(path: string): Promise<DatabaseSync> {
  const pidFile = join(path, 'agent.pid');
  const lock = new DatabaseSync(join(path, 'lock'), { timeout: 0 });
  try {
    lock.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE');
  } catch (error) {
    lock.close();
    if (!(error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY)) {
      throw new ClawError('STORE_FAILED', `the state directory ${path} can not be locked: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    }
    const pid = await readFile(pidFile, 'utf8').catch(() => 'unknown');
    throw new ClawError('AGENT_ALREADY_RUNNING', `another agent (pid ${pid.trim()}) holds the state directory ${path}`, {
      hint: 'Stop it first, or give this one a state directory of its own.',
      cause: error,
    });
  }
  await writeFile(pidFile, `${process.pid}\n`, { mode: 0o600 });
  return lock;
}

const SQLITE_BUSY = 5;
