/**
 * A machine of its own to run host mode on: network, mount and pid namespaces with empty /run and /var/lib. It never
 * touches this machine's kernel state, and closing it ends every process in it.
 */
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { start, type Argv } from '../../src/drivers/exec.ts';
import { childrenOf } from '../../src/sandbox/processes.ts';
import { signalEntered } from '../../src/sandbox/sandbox.ts';
import { launcher, type Outcome } from '../cli/cli-process.ts';
import { checkout } from '../cli/sandbox-fixture.ts';

export interface Machine {
  /** Runs a program to its end. */
  run(argv: Argv): Promise<Outcome>;
  /** Runs a program that must not fail, and gives what it printed. */
  output(argv: Argv): Promise<string>;
  clawnode(...args: string[]): Promise<Outcome>;
  /** One command of the agent; throws its error. */
  invoke(command: string, params?: unknown): Promise<unknown>;
  /** `clawnode up` in the background; resolves once it is ready. Throws with its words when it ends instead. */
  up(...args: string[]): Promise<RunningAgent>;
  /** The same, started by a program that takes rights away, such as setpriv. */
  upThrough(starter: readonly string[], ...args: string[]): Promise<RunningAgent>;
  close(): Promise<void>;
}

export interface RunningAgent {
  /** What it said when it was ready. */
  readonly words: string;
  /** Sends SIGTERM and waits for the end. */
  stop(): Promise<{ exitCode: number | null; tookMs: number }>;
  /** SIGKILL, and waits for the end. */
  kill(): Promise<void>;
}

// PID 1 is a shell because it has to reap workloads that an agent leaves behind.
const INIT = `
mount -t tmpfs tmpfs /run && mkdir /run/cgroup && mount --rbind /sys/fs/cgroup /run/cgroup && mount -t sysfs sysfs /sys && mount -t tmpfs tmpfs /var/lib && ip link set lo up && echo up
sleep infinity & while :; do wait; done`;

/** As an ordinary user the machine has one uid only, so that an agent can check its configuration there but not run. */
export async function openMachine(): Promise<Machine> {
  const asUser = process.getuid?.() !== 0;
  const namespaces = [...(asUser ? ['--user', '--map-root-user'] : []), '--net', '--mount', '--pid'];
  const outer = start(['unshare', ...namespaces, '--fork', '--kill-child', '--mount-proc', 'sh', '-c', INIT], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(outer, 'close');
  if (outer.stdout !== null) await once(createInterface({ input: outer.stdout }), 'line');
  const [init] = await childrenOf(outer.pid ?? 0);
  if (init === undefined) throw new Error('the machine did not start');
  const entry = ['nsenter', '-t', String(init), ...(asUser ? ['--user', '--preserve-credentials'] : []), '--net', '--mount', '--pid'] as const;
  const enter = (argv: Argv) => start([...entry, '--', ...argv], { stdio: ['ignore', 'pipe', 'pipe'], env: environment() });

  const run = async (argv: Argv): Promise<Outcome> => {
    const child = enter(argv);
    const [[exitCode, signal], stdout, stderr] = await Promise.all([
      once(child, 'close'),
      child.stdout === null ? '' : text(child.stdout),
      child.stderr === null ? '' : text(child.stderr),
    ]);
    return { exitCode, signal, stdout, stderr };
  };
  const clawnode = (...args: string[]): Promise<Outcome> => run([process.execPath, launcher, ...args]);
  const upThrough = async ([program = 'env', ...rest]: readonly string[], ...args: string[]): Promise<RunningAgent> => {
    const child = enter([program, ...rest, process.execPath, launcher, 'up', ...args]);
    const exited = once(child, 'exit');
    const words = await readyWords(child);
    return {
      words,
      stop: async () => {
        const beganMs = performance.now();
        await signalEntered(child, 'SIGTERM');
        const [exitCode] = await exited;
        return { exitCode, tookMs: performance.now() - beganMs };
      },
      kill: async () => {
        await signalEntered(child, 'SIGKILL');
        await exited;
      },
    };
  };
  return {
    run,
    output: async (argv) => {
      const { exitCode, stdout, stderr } = await run(argv);
      if (exitCode !== 0) throw new Error(`${argv.join(' ')} ended with ${exitCode}: ${stderr}${stdout}`);
      return stdout;
    },
    clawnode,
    invoke: async (command, params = {}) => {
      const { exitCode, stdout, stderr } = await clawnode('invoke', command, JSON.stringify(params));
      if (exitCode !== 0) throw new Error(stderr);
      return JSON.parse(stdout);
    },
    up: (...args) => upThrough([], ...args),
    upThrough,
    close: async () => {
      outer.kill('SIGKILL');
      await ended;
    },
  };
}

/** The default paths hold, because /run and /var/lib are the machine's own. */
function environment(): NodeJS.ProcessEnv {
  const { CLAWNODE_SOCKET: _, ...rest } = process.env;
  return { ...rest, PATH: `${rest['PATH'] ?? ''}:/usr/sbin:/sbin`, PWD: checkout };
}

async function readyWords(child: ReturnType<typeof start>): Promise<string> {
  const said: string[] = [];
  if (child.stderr === null) throw new Error('its words can not be read');
  for await (const line of createInterface({ input: child.stderr })) {
    said.push(line);
    if (line.includes(' is ready ')) break;
  }
  const words = said.join('\n');
  if (!words.includes(' is ready ')) throw new Error(words);
  // What it says later must not fill the pipe.
  child.stderr.resume();
  return words;
}
