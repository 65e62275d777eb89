/** The processes of the sandbox that a script runs in, as /proc shows them: who they are and whose child. It only signals those it is given. */
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';

export interface Process {
  readonly pid: number;
  readonly parent: number;
  readonly argv: readonly string[];
}

/** All living processes but zombies. */
export async function listProcesses(): Promise<Process[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(pids.map(async (pid) => await readProcess(pid)));
  return found.filter((process) => process !== undefined);
}

export const isAgent = ({ argv }: Process): boolean => isNodeProgram(argv, 'src/sandbox/agent-process.ts');
export const isProxy = ({ argv }: Process): boolean => isNodeProgram(argv, 'src/proxy/main.ts');
/** Starts one worker of the proxy again when that was killed. */
export const isProxyParent = ({ argv }: Process): boolean => (argv[1]?.endsWith('/respawn.sh') ?? false) && argv.some((word) => word.endsWith('src/proxy/main.ts'));
/** Keeps the listening sockets of the ingress. */
export const isHolder = ({ argv }: Process): boolean => argv[1]?.endsWith('/hold.sh') ?? false;
/** The directory of the proxy's worker that this shell supervises or logs for; undefined for any other process. */
export const proxySupervisor = (process: Process): string | undefined => {
  const directory = supervisedDirectory(process);
  return directory !== undefined && /\/proxy\/\d$/.test(directory) ? directory : undefined;
};
export const isRestore = ({ argv }: Process): boolean => argv[0]?.endsWith('-restore') ?? false;

/** The directory whose run a supervisor's shell belongs to; undefined for any other process. */
export function supervisedDirectory({ argv }: Pick<Process, 'argv'>): string | undefined {
  return argv[1]?.endsWith('/supervise.sh') === true ? argv[2] : undefined;
}

export interface ProxyKill {
  readonly what: string;
  readonly victims: (all: readonly Process[]) => readonly Process[];
}

/** Ways to kill parts of the ingress proxy that leave somebody who has its sockets. */
export const PROXY_KILLS: readonly ProxyKill[] = [
  { what: 'one worker', victims: (all) => all.filter(isProxy).slice(0, 1) },
  { what: 'both workers', victims: (all) => all.filter(isProxy) },
  { what: 'the parent of one worker', victims: (all) => all.filter(isProxyParent).slice(0, 1) },
  { what: 'the supervisor of one worker', victims: (all) => all.filter((process) => proxySupervisor(process) !== undefined).slice(0, 1) },
  { what: 'the holder', victims: (all) => all.filter(isHolder) },
  { what: 'the holder and both workers', victims: (all) => all.filter((process) => isHolder(process) || isProxy(process)) },
  { what: 'the holder and all of one worker', victims: (all) => all.filter((process) => isHolder(process) || proxySupervisor(process)?.endsWith('/1') === true) },
  { what: 'all of both workers', victims: (all) => all.filter((process) => proxySupervisor(process) !== undefined) },
];

/**
 * Kills them and resolves with the moment from which no worker lives that was to die. One whose supervisor or parent was killed
 * ends some milliseconds after it, and until then may accept what it will not answer.
 */
export async function killForGood(victims: ProxyKill['victims']): Promise<{ readonly killed: number; readonly deadMs: number }> {
  const all = await listProcesses();
  const chosen = victims(all);
  const dying = workersBelow(chosen, all);
  for (const { pid } of chosen) signalled(pid, 'SIGKILL');
  while (dying.some(({ pid }) => existsSync(`/proc/${pid}`))) await delay(1);
  return { killed: chosen.length, deadMs: performance.now() };
}

/** The proxy's workers below these processes, themselves not counted. */
function workersBelow(chosen: readonly Process[], all: readonly Process[]): Process[] {
  const below = new Set(chosen.map(({ pid }) => pid));
  for (let size = 0; size < below.size; ) {
    size = below.size;
    for (const { pid, parent } of all) if (below.has(parent)) below.add(pid);
  }
  return all.filter((process) => isProxy(process) && below.has(process.pid) && !chosen.includes(process));
}

/** The pids of those that were killed. */
export async function killAll(which: (process: Process) => boolean, signal: NodeJS.Signals): Promise<number[]> {
  return (await listProcesses()).filter(which).flatMap(({ pid }) => (signalled(pid, signal) ? [pid] : []));
}

function signalled(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ESRCH') return false;
    throw error;
  }
}

function isNodeProgram(argv: readonly string[], program: string): boolean {
  return argv[0] === process.execPath && (argv[1]?.endsWith(program) ?? false);
}

async function readProcess(pid: number): Promise<Process | undefined> {
  try {
    const [status, commandLine] = await Promise.all([readFile(`/proc/${pid}/status`, 'utf8'), readFile(`/proc/${pid}/cmdline`, 'utf8')]);
    if (/^State:\t[ZX]/m.test(status)) return undefined;
    return { pid, parent: Number(/^PPid:\t(\d+)$/m.exec(status)?.[1]), argv: commandLine.split('\0').slice(0, -1) };
  } catch (error) {
    // It ended while it was read.
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ESRCH')) return undefined;
    throw error;
  }
}
