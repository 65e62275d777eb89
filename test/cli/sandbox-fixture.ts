/** What the tests of the sandbox share: a fake agent's argv, running a program inside, looking for what was left behind. */
import { once } from 'node:events';
import { readFile, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import type { Argv } from '../../src/drivers/exec.ts';
import type { Sandbox, SandboxOptions } from '../../src/sandbox/sandbox.ts';

export const checkout = join(import.meta.dirname, '..', '..');

export const fakeAgentArgv: NonNullable<SandboxOptions['agent']> = ({ agentSocket, path }) => [
  process.execPath,
  join(import.meta.dirname, 'fake-agent.ts'),
  agentSocket,
  join(path, 'pid'),
];

/** Runs a program inside to its end. */
export async function runInside(sandbox: Sandbox, argv: Argv): Promise<{ exitCode: number | null; signal: string | null; stdout: string }> {
  const child = sandbox.enter(argv, ['ignore', 'pipe', 'inherit']);
  const ended = once(child, 'close');
  const stdout = child.stdout === null ? '' : await text(child.stdout);
  const [exitCode, signal] = await ended;
  return { exitCode, signal, stdout: stdout.trim() };
}

export function pidNamespaceOf(pid: number): Promise<string> {
  return readlink(`/proc/${pid}/ns/pid`);
}

/**
 * The pids of all living processes in a pid namespace, and of those outside that made it or entered it for a child.
 * Zombies are left out: when their parent was killed too, it is up to this machine's PID 1 to reap them.
 */
export async function processesOf(namespace: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(
    pids.map(async (pid) => {
      const links = await Promise.all(['pid', 'pid_for_children'].map((kind) => readlink(`/proc/${pid}/ns/${kind}`).catch(() => '')));
      if (!links.includes(namespace)) return [];
      const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => 'State:\tX');
      return /^State:\t[ZX]/m.test(status) ? [] : [pid];
    }),
  );
  return found.flat();
}

/** Waits until a check holds; throws with what was last seen when it does not within 10 s. */
export async function eventually<T>(look: () => Promise<T>, holds: (seen: T) => boolean): Promise<T> {
  for (let attempt = 0; attempt < 400; attempt += 1) {
    const seen = await look();
    if (holds(seen)) return seen;
    await delay(25);
  }
  throw new Error(`still not so after 10 s: ${JSON.stringify(await look())}`);
}

/**
 * An argv that runs as a user without any right: this one, or when we are root, `nobody` with the checkout mounted where
 * that user can read it, since a root's home is closed to others.
 */
export function asOrdinaryUser(argv: Argv): Argv {
  if (process.getuid?.() !== 0) return argv;
  const script = 'mount --bind "$1" /mnt && cd /mnt && shift && exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all "$@"';
  const [program, ...args] = argv.map((part) => part.replaceAll(checkout, '/mnt'));
  return ['unshare', '--mount', 'sh', '-c', script, 'sh', checkout, program ?? '', ...args];
}
