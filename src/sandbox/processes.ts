/** Looks up child processes in /proc and passes signals on to them; it ends nothing by itself. */
import { readFile } from 'node:fs/promises';

/** The pids of a process's children as this process sees them, oldest first; none when it is gone. */
export async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
  return text.split(' ').filter((part) => part !== '').map(Number);
}

/** Signals a process; one that has ended already is no error. */
export function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}
