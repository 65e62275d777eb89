/** Starts and ends the process tree of a sandbox: namespaces, PID 1 and the agent it keeps running. Knows nothing of sockets. */
import { createInterface } from 'node:readline';
import { notStarted, start, type Argv } from '../drivers/exec.ts';
import { ClawError } from '../errors.ts';
import { sandboxObstacle } from './availability.ts';
import { childrenOf, signalProcess } from './processes.ts';
import { systemSearchPath } from './search-path.ts';

export interface Init {
  /** Waits until the namespaces are furnished and gives the outer pid of PID 1. Throws as `openSandbox` says. */
  readonly up: (signal: AbortSignal) => Promise<number>;
  /** The exit codes of the agents that have ended so far, 128 + n for signal n. */
  readonly agentExits: readonly number[];
  /** Settles when every process inside has ended; never rejects. */
  readonly ended: Promise<void>;
  readonly stop: () => Promise<void>;
}

export interface InitOptions {
  /** A file that holds INIT_SCRIPT. */
  readonly initScript: string;
  readonly sharedPath: string;
  readonly agent: Argv;
}

// The kernel forgets a parent-death signal that is asked for after the parent's death: then the closed stdin ends PID 1.
const PARENT_DEATH = ['setpriv', '--pdeathsig', 'KILL'] as const;
const UNSHARE = ['unshare', '--user', '--map-root-user', '--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'] as const;

/** Starts PID 1, which starts `agent` and starts it again whenever it ends. All of it dies with this process. */
export function startInit({ initScript, sharedPath, agent }: InitOptions): Init {
  const argv: Argv = [...PARENT_DEATH, ...UNSHARE, 'sh', initScript, sharedPath, ...agent];
  // A session of its own keeps the terminal's Ctrl-C away from the agent.
  const env = { ...process.env, PATH: systemSearchPath(process.env['PATH']) };
  const child = start(argv, { stdio: ['pipe', 'pipe', 'pipe'], detached: true, env });
  const agentExits: number[] = [];
  let stderr = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  // PID 1 never reads while it lives; after its death the pipe is broken, and `ended` tells that.
  child.stdin?.on('error', () => undefined);

  const ended = Promise.withResolvers<void>();
  const furnished = Promise.withResolvers<'up' | 'ended' | ClawError>();
  child.on('error', (error) => furnished.resolve(notStarted(argv, error)));
  child.on('error', () => ended.resolve());
  child.on('close', () => furnished.resolve('ended'));
  child.on('close', () => ended.resolve());
  if (child.stdout !== null) {
    createInterface({ input: child.stdout }).on('line', (line) => {
      const [event, value] = line.split(' ');
      if (event === 'up') furnished.resolve('up');
      if (event === 'ended') agentExits.push(Number(value));
    });
  }

  const stop = async (): Promise<void> => {
    const initPid = await onlyChild(child.pid);
    // The end of a PID 1 is the end of every process of its namespace.
    if (initPid === undefined) child.kill('SIGKILL');
    else signalProcess(initPid, 'SIGKILL');
    child.stdin?.destroy();
    await ended.promise;
  };
  const up = async (signal: AbortSignal): Promise<number> => {
    const aborted = (): void => furnished.resolve('ended');
    signal.addEventListener('abort', aborted, { once: true });
    const outcome = await furnished.promise;
    signal.removeEventListener('abort', aborted);
    signal.throwIfAborted();
    if (outcome instanceof ClawError) throw outcome;
    const initPid = outcome === 'up' ? await onlyChild(child.pid) : undefined;
    if (initPid === undefined) throw await notFurnished(stderr, signal);
    return initPid;
  };
  return { up, agentExits, ended: ended.promise, stop };
}

/** `unshare --fork` has one child, the PID 1 of the new namespace; before the fork and after the end it has none. */
async function onlyChild(pid: number | undefined): Promise<number | undefined> {
  return pid === undefined ? undefined : (await childrenOf(pid))[0];
}

async function notFurnished(stderr: string, signal: AbortSignal): Promise<ClawError> {
  const obstacle = await sandboxObstacle(signal);
  if (obstacle !== undefined) return obstacle;
  const words = stderr.trim().split('\n').at(-1) ?? '';
  return new ClawError('SANDBOX_UNAVAILABLE', `the sandbox could not be furnished: ${words === '' ? 'it ended without a word' : words}`, {
    hint: 'Inside a container, mounting proc and sysfs may be forbidden; `clawnode doctor` says what else is missing.',
  });
}
