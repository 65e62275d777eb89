/** One directory, one supervised process: launches `supervise.sh`, reads what it recorded, ends it; it holds no state and no policy. */
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { run, start, type Argv } from '../drivers/exec.ts';
import { ClawError } from '../errors.ts';
import { processProblem, type ProcessProblem } from '../model/process-limits.ts';
import type { View } from './confinement.ts';
import { holdersOf, isAlive, readBootId, signalProcess, type ProcessIdentity } from './process-table.ts';

export interface Launch {
  /** Grows by one with each launch in a directory; a number runs at most once, whoever launches it. */
  readonly run: number;
  readonly restarts: number;
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** A path; without one the process stays in the agent's network namespace. */
  readonly netns?: string;
  /** Whom it runs as; without one it keeps the agent's uid and groups. */
  readonly user?: User;
  readonly views: readonly View[];
  /** The log is two files of at most this size. */
  readonly logBytes: number;
  /** Has another process start the supervisor, so that it gets that one's listening sockets; it resolves once it was started. */
  readonly startWith?: ((supervisor: Argv) => Promise<void>) | undefined;
}

export interface User {
  readonly uid: number;
  /** `nogroup` unless told: the group that has the uid's number may be any, `shadow` for example. */
  readonly gid?: number | undefined;
}

/** The last run recorded in a directory. */
export interface RecordedRun extends ProcessIdentity {
  readonly run: number;
  readonly restarts: number;
  /** When its supervisor started, in ms since the epoch. */
  readonly startedAtMs: number;
  readonly phase: 'setup' | 'running' | 'ended';
  /** 128 + n for signal n; set once it has ended. 137 too when its supervisor was killed, for then it was as well. */
  readonly exitCode?: number;
  /** Set when it ended before its command ran. */
  readonly failure?: string;
}

const SCRIPT = fileURLToPath(new URL('supervise.sh', import.meta.url));
export const SEARCH_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;
const NO_GROUP = 65_534;
const LOCK_HELD = 75;
const START_TIMEOUT_MS = 20_000;
const START_POLL_MS = 5;
const KILL_WAIT_MS = 5000;
const RECORD_WAIT_MS = 2000;
/** One that another process started tells nobody of its end. */
const UNSEEN_START_TIMEOUT_MS = 5000;

/**
 * Launches a run and resolves when its command runs or its end is recorded; also when another supervisor has the directory: then with
 * what that one recorded. Throws ClawError `WORKLOAD_FAILED` when nothing was recorded, `INVALID_ARGUMENT` for a command or an
 * environment that cannot be.
 */
export async function launch(directory: string, options: Launch, signal: AbortSignal): Promise<RecordedRun> {
  refuseWhatCannotBe(options);
  await mkdir(join(directory, 'log'), { recursive: true, mode: 0o700 });
  await writeWhole(join(directory, 'env'), encodeEnvironment(options.env));
  signal.throwIfAborted();
  const argv = supervisorArgv(directory, options);
  await options.startWith?.(argv);
  const child = options.startWith === undefined ? startSupervisor(argv) : undefined;
  let ended: string | undefined;
  child?.once('error', (error) => (ended = error.message));
  child?.once('exit', (code, killer) => {
    // Who holds the lock has not yet recorded its run when it has only just come up.
    if (code === LOCK_HELD) deadline = Math.min(deadline, Date.now() + RECORD_WAIT_MS);
    else ended = `its supervisor ended with ${code ?? killer ?? ''}`;
  });
  child?.unref();
  const patienceMs = child === undefined ? UNSEEN_START_TIMEOUT_MS : START_TIMEOUT_MS;
  let deadline = Date.now() + patienceMs;
  for (;;) {
    const gone = ended;
    const recorded = await readRun(directory);
    if (recorded !== undefined && recorded.run >= options.run && recorded.phase !== 'setup') return recorded;
    if (gone !== undefined && (recorded === undefined || recorded.run < options.run)) throw new ClawError('WORKLOAD_FAILED', `the process was not started: ${gone}`);
    if (Date.now() > deadline) {
      if (child?.pid !== undefined && ended === undefined) child.kill('SIGKILL');
      throw new ClawError('WORKLOAD_FAILED', `the process was not started within ${patienceMs} ms`);
    }
    await delay(START_POLL_MS, undefined, { signal });
  }
}

/** What the directory tells of its last run; undefined when there never was one. */
export async function readRun(directory: string): Promise<RecordedRun | undefined> {
  const text = await readIfThere(join(directory, 'run'));
  if (text === undefined) return undefined;
  const fields = text.trim().split(' ');
  const [number, pid, startTime, , restarts] = fields.map(Number);
  if (number === undefined || pid === undefined || startTime === undefined || restarts === undefined) throw new ClawError('INTERNAL', `${directory}/run holds ${text}`);
  const { mtimeMs: startedAtMs } = await stat(join(directory, 'run'));
  const base = { run: number, pid, startTime, restarts, startedAtMs };
  // The order matters: the supervisor writes its exit and then ends, so whoever is not alive has written it, or never will. And what
  // has an exit was marked as started before that, or never will be.
  const alive = fields[3] === readBootId() && isAlive(base);
  const exitCode = exitCodeOf(number, await readIfThere(join(directory, 'exit')));
  const started = (await readIfThere(join(directory, 'started')) ?? '') !== '';
  if (alive && exitCode === undefined) return { ...base, phase: started ? 'running' : 'setup' };
  const ended = { ...base, phase: 'ended', exitCode: exitCode ?? 137 } as const;
  if (started) return ended;
  const told = (await readIfThere(join(directory, 'setup')) ?? '').trim().split('\n').slice(0, 3).join('; ');
  return { ...ended, failure: told === '' ? 'it ended before its command ran' : told };
}

/**
 * TERM, then KILL after `graceMs`; resolves when nothing of the run is left, its directory neither. Idempotent, also for a directory that
 * never was. Throws ClawError `WORKLOAD_FAILED` when something does not end.
 */
export async function removeProcess(directory: string, { graceMs }: { graceMs: number }, signal: AbortSignal): Promise<void> {
  if (!existsSync(directory)) return;
  const ended = await terminate(directory, graceMs, signal);
  // The kernel lets go of a process's files, the lock too, a moment before it counts as ended.
  while (ended !== undefined && isAlive(ended)) await delay(START_POLL_MS, undefined, { signal });
  // Under the lock, so that a supervisor that is only now coming up finds its directory taken or gone, never half removed.
  await run(['flock', join(directory, 'lock'), 'rm', '--recursive', '--force', directory], { signal });
}

/** Resolves with the supervisor it has ended, if there was one. */
async function terminate(directory: string, graceMs: number, signal: AbortSignal): Promise<ProcessIdentity | undefined> {
  const living = await findLiving(directory, signal);
  if (living === 'nothing') return undefined;
  if (living !== undefined) signalProcess(living, 'SIGTERM');
  if (await lockIsFree(directory, graceMs, signal)) return living;
  // The supervisor's death kills its runner, that of the runner PID 1 inside, and that everything else: the kernel's parent death signal.
  if (living !== undefined) signalProcess(living, 'SIGKILL');
  if (living !== undefined && (await lockIsFree(directory, KILL_WAIT_MS, signal))) return living;
  // One that was killed in the moment between a fork and the child's request for that signal leaves an orphan; it has the lock open.
  for (const holder of holdersOf(join(directory, 'lock'))) signalProcess(holder, 'SIGKILL');
  if (await lockIsFree(directory, KILL_WAIT_MS, signal)) return living;
  throw new ClawError('WORKLOAD_FAILED', `processes of ${directory} do not end`, { hint: 'A process in uninterruptible sleep ends with its I/O.' });
}

/** The supervisor; one that has just come up holds the lock before it is on record. Undefined when somebody else holds it. */
async function findLiving(directory: string, signal: AbortSignal): Promise<RecordedRun | 'nothing' | undefined> {
  const deadline = Date.now() + RECORD_WAIT_MS;
  for (;;) {
    const recorded = await readRun(directory);
    if (recorded !== undefined && recorded.phase !== 'ended') return recorded;
    if (await lockIsFree(directory, 0, signal)) return 'nothing';
    if (Date.now() > deadline) return undefined;
    await delay(START_POLL_MS, undefined, { signal });
  }
}

/** Whether everything that belongs to the run is gone, waiting for it so long. */
export async function lockIsFree(directory: string, waitMs: number, signal: AbortSignal): Promise<boolean> {
  const argv = ['flock', '--timeout', String(waitMs / 1000), '--conflict-exit-code', String(LOCK_HELD), join(directory, 'lock'), 'true'] as const;
  const { exitCode } = await run(argv, { okExitCodes: [0, LOCK_HELD], timeoutMs: waitMs + 10_000, signal });
  return exitCode === 0;
}

/** `supervise.sh` says what these are. */
export function supervisorArgv(directory: string, { run: number, restarts, logBytes, netns = '-', user, views, command }: Launch): Argv {
  const runsAs = user === undefined ? '-' : `${user.uid}:${user.gid ?? NO_GROUP}`;
  const mounts = views.flatMap(({ kind, path }) => [kind, path]);
  return ['/bin/sh', SCRIPT, directory, ...[number, restarts, logBytes].map(String), netns, runsAs, ...mounts, '--', ...command];
}

function startSupervisor(argv: Argv): ReturnType<typeof start> {
  try {
    return start(argv, { detached: true, stdio: 'ignore', cwd: '/', env: { PATH: SEARCH_PATH } });
  } catch (cause) {
    // Where the limit of the stack is lower than usual, so is that of arguments.
    if (cause instanceof Error && 'code' in cause && cause.code === 'E2BIG') throw new ClawError('INVALID_ARGUMENT', 'argument list too long', { cause });
    throw cause;
  }
}

function refuseWhatCannotBe({ command, env }: Launch): void {
  const problem = nulOrName(command, env) ?? processProblem(command, env);
  if (problem === undefined) return;
  throw new ClawError('INVALID_ARGUMENT', problem.message, { path: problem.path, hint: 'Let the command read what is long from a file.' });
}

function nulOrName(command: readonly string[], env: Readonly<Record<string, string>>): ProcessProblem | undefined {
  for (const [name, value] of Object.entries(env)) {
    if (!NAME.test(name)) return { path: 'env', message: `${JSON.stringify(name)} is no name of an environment variable: letters, digits and _, no digit first` };
    if (value.includes('\0')) return { path: 'env', message: `the value of ${name} holds a NUL` };
  }
  const withNul = command.findIndex((argument) => argument.includes('\0'));
  return withNul === -1 ? undefined : { path: 'command', message: `argument ${withNul} holds a NUL` };
}

/** `init.sh` reads one variable a line; a line that starts with = continues the one before it. */
function encodeEnvironment(env: Readonly<Record<string, string>>): string {
  return Object.entries(env)
    .map(([name, value]) => `${name}=${value.replaceAll('\n', '\n=')}\n`)
    .join('');
}

export async function writeWhole(path: string, text: string): Promise<void> {
  const unfinished = `${path}.new`;
  await rm(unfinished, { force: true });
  await writeFile(unfinished, text, { mode: 0o600 });
  await rename(unfinished, path);
}

function exitCodeOf(wanted: number, text: string | undefined): number | undefined {
  const [recorded, code] = (text ?? '').trim().split(' ').map(Number);
  return recorded === wanted ? code : undefined;
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}
