/** Starts other programs: argv arrays, payload on stdin, C locale, never a shell. The only file that imports node:child_process. */
import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { ClawError } from '../errors.ts';

export type Argv = readonly [program: string, ...args: string[]];

export interface RunOptions {
  /** Written to the program's stdin, which is then closed. */
  readonly input?: string;
  readonly signal?: AbortSignal;
  /** The program is killed after this time; 10,000 ms unless told. */
  readonly timeoutMs?: number;
  /** Exit codes that are no error; `[0]` unless told. */
  readonly okExitCodes?: readonly number[];
}

export interface RunResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A program that ended otherwise than wanted: its argv, exit code, first line of stderr and how long it ran. */
export class ProcessError extends ClawError {
  readonly argv: Argv;
  readonly exitCode: number | null;
  readonly stderr: string;
  readonly durationMs: number;

  constructor(argv: Argv, outcome: { exitCode: number | null; signal: NodeJS.Signals | null; stderr: string; durationMs: number }) {
    const ended = outcome.exitCode === null ? `was killed by ${outcome.signal ?? 'a signal'}` : `exited with ${outcome.exitCode}`;
    const firstLine = outcome.stderr.trim().split('\n', 1)[0] ?? '';
    super('PROCESS_FAILED', `${argv.join(' ')} ${ended} after ${Math.round(outcome.durationMs)} ms${firstLine === '' ? '' : `: ${firstLine}`}`);
    this.argv = argv;
    this.exitCode = outcome.exitCode;
    this.stderr = outcome.stderr;
    this.durationMs = outcome.durationMs;
  }
}

/** Starts a program that goes on running; the caller owns its streams and its end. `env` replaces the environment. */
export function start(argv: Argv, options: SpawnOptions = {}): ChildProcess {
  const [program, ...args] = argv;
  return spawn(program, args, { ...options, env: { ...(options.env ?? process.env), LC_ALL: 'C' }, shell: false });
}

/** Runs a program to its end. Throws ProcessError, or ClawError `MISSING_BINARY` when it is not installed. */
export async function run(argv: Argv, options: RunOptions = {}): Promise<RunResult> {
  const { input = '', signal, timeoutMs = 10_000, okExitCodes = [0] } = options;
  signal?.throwIfAborted();
  const startedAt = performance.now();
  const child = start(argv, { stdio: 'pipe' });
  const stop = (): void => void child.kill('SIGKILL');
  const timer = setTimeout(stop, timeoutMs);
  signal?.addEventListener('abort', stop, { once: true });
  try {
    const outcome = await collect(argv, child, input);
    signal?.throwIfAborted();
    if (outcome.exitCode === null || !okExitCodes.includes(outcome.exitCode)) {
      throw new ProcessError(argv, { ...outcome, durationMs: performance.now() - startedAt });
    }
    return { exitCode: outcome.exitCode, stdout: outcome.stdout, stderr: outcome.stderr };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', stop);
  }
}

interface Outcome {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

function collect(argv: Argv, child: ChildProcess, input: string): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    let stdout = '';
    let stderr = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.on('error', (error) => reject(notStarted(argv, error)));
    child.on('close', (exitCode, signal) => resolve({ exitCode, signal, stdout, stderr }));
    // A program that ends without reading its stdin breaks the pipe; its exit code tells the story.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
  });
}

/** The error for a program that could not be started at all. */
export function notStarted([program]: Argv, error: Error): ClawError {
  const code = 'code' in error ? error.code : undefined;
  // The search ends with EACCES when it may not look into one directory of the PATH, although the program is in none of the others.
  const missing = code === 'ENOENT' || (code === 'EACCES' && !program.includes('/') && !isOnPath(program));
  return missing
    ? new ClawError('MISSING_BINARY', `${program} is not installed`, { hint: 'Run `clawnode doctor --fix`.', cause: error })
    : new ClawError('PROCESS_FAILED', `${program} could not be started: ${error.message}`, { cause: error });
}

function isOnPath(program: string): boolean {
  return (process.env['PATH'] ?? '').split(delimiter).some((folder) => existsSync(join(folder, program)));
}
