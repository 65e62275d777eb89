/** Keeps a program running that prints what changes in the kernel, and hands on its lines; it never reads what they mean. */
import type { ChildProcess } from 'node:child_process';
import { start, type Argv } from './exec.ts';

export interface LineWatchOptions {
  /** A program that prints one line per event, flushed at once, and does not end by itself. */
  readonly argv: Argv;
  /** All complete lines that have come in since the last call. */
  readonly onLines: (lines: readonly string[]) => void;
  /** The program has been started, the first time or again: whatever happened until it listens was not seen. */
  readonly onStart: () => void;
  /** It has ended, or could not be started; it is started again later. */
  readonly onEnd: (reason: string) => void;
}

export interface LineWatch {
  close(): Promise<void>;
}

const RESTART_MS = { first: 500, most: 60_000 };
/** What ran for so long is started again without much ado. */
const STEADY_MS = 60_000;

export function watchLines({ argv, onLines, onStart, onEnd }: LineWatchOptions): LineWatch {
  let child: ChildProcess | undefined;
  let closed = false;
  let restartMs = RESTART_MS.first;
  let timer: NodeJS.Timeout | undefined;
  let ended: Promise<void> = Promise.resolve();

  const launch = (): void => {
    const { promise, resolve } = Promise.withResolvers<void>();
    ended = promise;
    const startedAt = performance.now();
    let unread = '';
    let stderr = '';
    let told = false;
    // The kernel kills it with us, so that no watcher is left behind by an agent that was killed.
    const process = start(['setpriv', '--pdeathsig', 'KILL', '--', ...argv], { stdio: ['ignore', 'pipe', 'pipe'] });
    child = process;
    const finish = (reason: string): void => {
      if (told) return;
      told = true;
      child = undefined;
      resolve();
      if (closed) return;
      if (performance.now() - startedAt > STEADY_MS) restartMs = RESTART_MS.first;
      timer = setTimeout(launch, restartMs);
      restartMs = Math.min(restartMs * 2, RESTART_MS.most);
      onEnd(reason);
    };
    process.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr = (stderr + text).slice(-1_000)));
    process.stdout?.setEncoding('utf8').on('data', (text: string) => {
      const lines = (unread + text).split('\n');
      unread = lines.pop() ?? '';
      if (!closed && lines.length > 0) onLines(lines);
    });
    process.once('error', (error) => finish(error.message));
    process.once('close', (exitCode) => finish(`${argv[0]} ended (${exitCode ?? 'killed'}) ${stderr.trim()}`.trim()));
    onStart();
  };
  launch();

  return {
    close: async () => {
      closed = true;
      clearTimeout(timer);
      child?.kill('SIGKILL');
      await ended;
    },
  };
}
