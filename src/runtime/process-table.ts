/** Tells which processes live, by pid and start time, because pids are given again; it never signals one that it has not just recognised. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

export interface ProcessIdentity {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: clock ticks since boot. */
  readonly startTime: number;
}

/** Whether exactly this process lives; a zombie does not. */
export function isAlive({ pid, startTime }: ProcessIdentity): boolean {
  const found = readStat(pid);
  return found !== undefined && found.startTime === startTime && found.state !== 'Z' && found.state !== 'X';
}

/** Sends the signal if exactly this process lives; answers whether it did. */
export function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): boolean {
  if (!isAlive(identity)) return false;
  try {
    return process.kill(identity.pid, signal);
  } catch (error) {
    // It ended between the look and the signal.
    if (error instanceof Error && 'code' in error && error.code === 'ESRCH') return false;
    throw error;
  }
}

/** Who has this file open, as far as this process may see. It reads all of /proc: a last resort. */
export function holdersOf(path: string): ProcessIdentity[] {
  const holders: ProcessIdentity[] = [];
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid || !hasOpen(pid, path)) continue;
    const found = readStat(pid);
    if (found !== undefined) holders.push({ pid, startTime: found.startTime });
  }
  return holders;
}

/** Pids and start times count from here; a record from before the last boot names no living process. */
export function readBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

function readStat(pid: number): { readonly state: string; readonly startTime: number } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name in field 2 may hold blanks and parentheses; what follows its last parenthesis starts with field 3.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0] ?? '', startTime: Number(fields[19]) };
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

function hasOpen(pid: number, path: string): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${fd}`) === path;
      } catch (error) {
        if (isGone(error)) return false;
        throw error;
      }
    });
  } catch (error) {
    if (isGone(error)) return false;
    throw error;
  }
}

/** Processes end while they are read, and those of others may not be looked into. */
function isGone(error: unknown): boolean {
  return error instanceof Error && 'code' in error && ['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes(String(error.code));
}
