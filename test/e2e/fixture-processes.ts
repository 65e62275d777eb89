/** The processes of the sandbox that a script runs in, as /proc shows them: who they are and whose child. It only signals those it is given. */
import { readdir, readFile } from 'node:fs/promises';

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
