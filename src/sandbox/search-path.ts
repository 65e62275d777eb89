/** Where system programs are looked for: an ordinary user's PATH on Debian leaves out the folders that hold iptables and ipset. */
import { delimiter, dirname } from 'node:path';

const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin'] as const;

/**
 * The PATH of whoever is inside a sandbox: our own `clawnode` comes first, so that it is of the agent's version, and the
 * Node that runs us comes last, for those who have no other.
 */
export function insideSearchPath(path: string | undefined, programs: string): string {
  return [programs, systemSearchPath(path), dirname(process.execPath)].join(delimiter);
}

/** A PATH with the folders of system programs behind the user's own. */
export function systemSearchPath(path: string | undefined): string {
  const folders = (path ?? '/usr/local/bin:/usr/bin:/bin').split(':');
  return [...folders, ...SYSTEM_FOLDERS.filter((folder) => !folders.includes(folder))].join(':');
}
