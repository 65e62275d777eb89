/** Starts a confined process in the agent's network namespace that outlives the agent, such as the ingress proxy; it never restarts it. */
import { isAbsolute } from 'node:path';
import { ClawError } from '../errors.ts';
import { planViews, SYSTEM_DIRECTORIES, type Exposure } from './confinement.ts';
import { readLogTail } from './log-tail.ts';
import type { ProcessIdentity } from './process-table.ts';
import { launch, lockIsFree, readRun, removeProcess, type Launch } from './supervisor.ts';

export { isAlive, type ProcessIdentity } from './process-table.ts';

export interface ConfinedProcessSpec {
  /** Its own directory: lock, record, exit code and log; an absolute path. May lie in a hidden one. */
  readonly directory: string;
  /** An absolute program and its arguments; it runs in `/`. */
  readonly command: readonly string[];
  /** Beside PATH, HOME and LANG it gets these only. */
  readonly env: Readonly<Record<string, string>>;
  /** Directories that look empty to it. */
  readonly hide: readonly string[];
  /** What it must see, at its own path, although it is hidden or the uid could not reach it: its code, its program, its sockets. */
  readonly expose: readonly Exposure[];
  /** In host mode, a uid of its own. Files it writes to must belong to it. */
  readonly uid?: number;
  /** With a uid: its group; 65534 unless told. */
  readonly gid?: number;
  /** Has another process start it, so that it gets that one's listening sockets. */
  readonly startWith?: Launch['startWith'];
}

const LOG_BYTES = 4 * 1024 * 1024;
const LOCK_WAIT_MS = 5000;

/**
 * Makes it run and resolves when its program runs: one that lives already is left alone. The pid is its supervisor's: TERM to it reaches
 * the program, and its KILL kills the program. Throws ClawError `PROCESS_FAILED` when the program could not be started,
 * `INVALID_ARGUMENT` for a relative directory: the supervisor works in `/`.
 */
export async function startConfinedProcess(spec: ConfinedProcessSpec, signal: AbortSignal): Promise<ProcessIdentity> {
  const { directory, uid, gid } = spec;
  if (!isAbsolute(directory)) throw new ClawError('INVALID_ARGUMENT', `${directory} is no absolute path`, { path: 'directory' });
  const last = await readRun(directory);
  if (last?.phase === 'running') return { pid: last.pid, startTime: last.startTime };
  // What is left of the last one, its log writer for example, still holds the lock for a moment.
  if (last !== undefined) await lockIsFree(directory, LOCK_WAIT_MS, signal);
  const views = planViews({ hide: spec.hide, freeze: SYSTEM_DIRECTORIES, expose: spec.expose, uid });
  const options = { run: (last?.run ?? 0) + 1, restarts: 0, command: spec.command, env: spec.env, views, logBytes: LOG_BYTES, startWith: spec.startWith };
  const { pid, startTime, failure } = await launch(directory, { ...options, ...(uid === undefined ? {} : { user: { uid, gid } }) }, signal);
  if (failure !== undefined) throw new ClawError('PROCESS_FAILED', `${spec.command[0] ?? ''} could not be started: ${failure}`);
  return { pid, startTime };
}

/** Its supervisor, while it runs. */
export async function readConfinedProcess(directory: string): Promise<ProcessIdentity | undefined> {
  const last = await readRun(directory);
  return last?.phase === 'running' ? { pid: last.pid, startTime: last.startTime } : undefined;
}

/** The exit code of the last run, 128 + n for signal n; undefined while it runs or when there was none. */
export async function readConfinedExit(directory: string): Promise<number | undefined> {
  return (await readRun(directory))?.exitCode;
}

/** The last lines it wrote, oldest first. */
export function readConfinedLog(directory: string, tail: number): Promise<string[]> {
  return readLogTail(directory, tail);
}

/** TERM, grace, KILL; resolves when nothing of it is left, its directory neither. Idempotent. */
export function stopConfinedProcess(directory: string, options: { graceMs: number }, signal: AbortSignal): Promise<void> {
  return removeProcess(directory, options, signal);
}
