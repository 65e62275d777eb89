/** Owns the one long-lived iptables-restore process and proves each commit; it never decides what to write. */
import { ClawError } from '../errors.ts';
import { notStarted, start, type Argv } from './exec.ts';

export interface RestoreProcess {
  /**
   * Writes one complete payload (`*table` ... `COMMIT`, ended by a newline) and resolves once the kernel holds it.
   * Throws ClawError `KERNEL_REFUSED` (the process ended; earlier tables of the payload may be in force),
   * `TIMEOUT` (no proof of the commit) or `MISSING_BINARY`, or the signal's reason. After each what the kernel holds is unknown.
   */
  commit(payload: string, options: CommitOptions): Promise<void>;
  /** Ends the process. Harmless when none runs. */
  close(): Promise<void>;
}

export interface CommitOptions {
  /** The process is killed when the commit is not proved after this time. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export interface RestoreOptions {
  /** The program and its arguments, `-v` among them: only then are comments echoed. */
  readonly argv: Argv;
  /** Called whenever the process ends, also between two payloads. */
  readonly onExit: () => void;
  readonly observer?: RestoreObserver | undefined;
}

/** Told what the process does, for whoever counts. */
export interface RestoreObserver {
  readonly onStart: () => void;
  readonly onCommit: (commit: { readonly durationMs: number; readonly failed: boolean }) => void;
}

interface Running {
  readonly child: ReturnType<typeof start>;
  /** Resolves when the process has ended and its output is read. */
  readonly ended: Promise<void>;
  /** Lines written over the process's life: its error messages count from its first line. */
  linesWritten: number;
  unreadOutput: string;
  stderr: string;
  inFlight: InFlight | undefined;
}

interface InFlight {
  readonly payload: string;
  readonly firstLine: number;
  readonly proof: string;
  readonly resolve: () => void;
  readonly reject: (reason: unknown) => void;
  /** Why we killed the process, when we did. */
  killedFor: unknown;
}

/** Starts nothing yet: the first commit starts the process, as does the first one after it has ended. */
export function openRestoreProcess(options: RestoreOptions): RestoreProcess {
  let running: Running | undefined;
  let commits = 0;

  const { argv, observer } = options;

  function ensureRunning(): Running {
    if (running !== undefined) return running;
    running = launch(argv, () => {
      running = undefined;
      options.onExit();
    });
    observer?.onStart();
    return running;
  }

  async function observed(commit: () => Promise<void>): Promise<void> {
    const startedAt = performance.now();
    let failed = true;
    try {
      await commit();
      failed = false;
    } finally {
      observer?.onCommit({ durationMs: performance.now() - startedAt, failed });
    }
  }

  return {
    async commit(payload, { timeoutMs, signal }) {
      signal?.throwIfAborted();
      const process = ensureRunning();
      if (process.inFlight !== undefined) throw new ClawError('INTERNAL', 'a second iptables payload was written before the first was proved');
      commits += 1;
      await observed(() => write(process, { payload, proof: `# claw-${commits}`, timeoutMs, signal }));
    },
    async close() {
      const process = running;
      if (process === undefined) return;
      process.child.stdin?.end();
      const timer = setTimeout(() => process.child.kill('SIGKILL'), 2_000);
      await process.ended;
      clearTimeout(timer);
    },
  };
}

function launch(argv: Argv, onExit: () => void): Running {
  // The kernel kills it with us, so that no half-written payload waits in a process that nobody feeds.
  const child = start(['setpriv', '--pdeathsig', 'KILL', '--', ...argv], { stdio: 'pipe' });
  const { promise: ended, resolve: onEnded } = Promise.withResolvers<void>();
  const running: Running = { child, ended, linesWritten: 0, unreadOutput: '', stderr: '', inFlight: undefined };
  const finish = (error: ClawError): void => {
    const { inFlight } = running;
    running.inFlight = undefined;
    onExit();
    inFlight?.reject(inFlight.killedFor ?? error);
    onEnded();
  };
  child.stdout?.setEncoding('utf8').on('data', (text: string) => readEchoes(running, text));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (running.stderr = (running.stderr + text).slice(-STDERR_KEPT)));
  // A process that ends while we write breaks the pipe; its end is told by `close`.
  child.stdin?.on('error', () => undefined);
  child.once('error', (error) => finish(notStarted(argv, error)));
  child.once('close', (exitCode) => finish(refusal(argv, running, exitCode)));
  return running;
}

const STDERR_KEPT = 65_536;

interface Payload extends Pick<InFlight, 'payload' | 'proof'> {
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

async function write(process: Running, { payload, proof, timeoutMs, signal }: Payload): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const inFlight: InFlight = { payload, proof, firstLine: process.linesWritten + 1, resolve, reject, killedFor: undefined };
  const kill = (reason: unknown): void => {
    inFlight.killedFor ??= reason;
    process.child.kill('SIGKILL');
  };
  const onAbort = (): void => kill(signal?.reason);
  const onTimeout = (): void => kill(new ClawError('TIMEOUT', `iptables-restore did not prove a commit within ${timeoutMs} ms`));
  const timer = setTimeout(onTimeout, timeoutMs);
  signal?.addEventListener('abort', onAbort, { once: true });
  process.inFlight = inFlight;
  process.stderr = '';
  process.linesWritten += countLines(payload) + 1;
  process.child.stdin?.write(`${payload}${proof}\n`);
  try {
    await promise;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
}

/** Comments come back on stdout when they are read, and ours is read after COMMIT has returned. */
function readEchoes(process: Running, text: string): void {
  const lines = (process.unreadOutput + text).split('\n');
  process.unreadOutput = lines.pop() ?? '';
  const { inFlight } = process;
  if (inFlight === undefined || !lines.includes(inFlight.proof)) return;
  process.inFlight = undefined;
  inFlight.resolve();
}

function refusal(argv: Argv, { stderr, inFlight }: Running, exitCode: number | null): ClawError {
  // setpriv exits with 127 when the program it shall become does not exist.
  if (exitCode === 127) return new ClawError('MISSING_BINARY', `${argv[0]} is not installed`, { hint: 'Run `clawnode doctor --fix`.' });
  const line = offendingLine(stderr, inFlight);
  const ended = exitCode === null ? 'was killed' : `exited with ${exitCode}`;
  return new ClawError('KERNEL_REFUSED', [`${argv[0]} ${ended}`, toldBy(stderr), line === undefined ? '' : `at \`${line}\``].filter((part) => part !== '').join(': '));
}

/** What went wrong, without the program's name and its advice, which may fill the first lines and the last. */
function toldBy(stderr: string): string {
  const lines = stderr.split('\n').map((line) => line.replace(/^ip6?tables\S*(?: v[\d.]+)?(?: \(\w+\))?:[ :]*/, '').trim());
  return lines.filter((line) => line !== '' && !/^(?:Try |Error occurred at line)/.test(line)).join('; ').slice(0, 300);
}

function offendingLine(stderr: string, inFlight: InFlight | undefined): string | undefined {
  const number = /\bline:? (\d+)/.exec(stderr)?.[1];
  return number === undefined || inFlight === undefined ? undefined : inFlight.payload.split('\n')[Number(number) - inFlight.firstLine];
}

function countLines(text: string): number {
  let lines = 0;
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) lines += 1;
  return lines;
}
