/** Where system programs are looked for: an ordinary user's PATH on Debian leaves out the folders that hold iptables and ipset. */

const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin'] as const;

/** A PATH with the folders of system programs behind the user's own. */
export function systemSearchPath(path: string | undefined): string {
  const folders = (path ?? '/usr/local/bin:/usr/bin:/bin').split(':');
  return [...folders, ...SYSTEM_FOLDERS.filter((folder) => !folders.includes(folder))].join(':');
}
