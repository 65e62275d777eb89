/** Plans what a confined process sees of the file system: pure but for looking at paths; it mounts nothing (`confine.sh` does). */
import { lstatSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, isAbsolute, join } from 'node:path';
import { env, getuid } from 'node:process';
import { ClawError } from '../errors.ts';

export interface Exposure {
  readonly path: string;
  readonly access: 'read' | 'write';
}

export interface ViewRequest {
  /** Directories that must exist and look empty inside. Those of other sandboxes beside a sandbox's own are hidden with it. */
  readonly hide: readonly string[];
  /** Directories that cannot be written to inside, with all that is mounted below them, as far as they exist. */
  readonly freeze?: readonly string[];
  /** Files and directories that stay visible at their own paths, below a hidden directory too. */
  readonly expose?: readonly Exposure[];
  /** The process's own uid; without one it has the agent's, and may then traverse what the agent may. */
  readonly uid?: number | undefined;
}

/** One mount of the private view; the order in a list is the order of mounting. */
export interface View {
  readonly kind: 'cover' | 'freeze' | 'read' | 'write';
  readonly path: string;
}

/**
 * What a machine is made of, and what it trusts: in a sandbox that root opened, the files there belong to a process's own uid. Programs
 * and data of users stay as they are: /home, /root, /tmp, /var/tmp, /mnt and what else a machine may have.
 */
export const SYSTEM_DIRECTORIES: readonly string[] = [
  '/etc', '/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32', '/boot', '/opt', '/srv', '/var/lib', '/var/spool', '/var/cache',
  ...['/root', env['HOME'] ?? ''].filter(isAbsolute).map((home) => join(home, '.ssh')),
];

const SANDBOX_PREFIX = 'clawnode-sandbox-';

/** So many mounts are a view; more are a tree whose every folder is closed. */
const MOST_VIEWS = 500;

/**
 * The mounts that hide and expose. A directory that the uid cannot traverse is covered too, and what is exposed below it is mounted into
 * the cover at its own path: so the code of a process may lie in a home directory that is closed to others.
 * Throws ClawError `CONFIG_INVALID` when a path does not exist or cannot be made readable.
 */
export function planViews(request: ViewRequest): View[] {
  const views = new Map<string, View>();
  const add = (view: View): void => {
    views.set(view.path, view);
  };
  for (const path of (request.freeze ?? []).flatMap(resolvedIfThere)) add({ kind: 'freeze', path });
  for (const path of request.hide.map(resolved)) for (const covered of [path, ...otherSandboxes(path)]) add({ kind: 'cover', path: covered });
  for (const { path, access } of request.expose ?? []) {
    const real = resolved(path);
    if (request.uid !== undefined) for (const cover of closedAncestors(real)) if (!views.has(cover)) add({ kind: 'cover', path: cover });
    for (const view of openParts(real, access, request.uid)) if (view.kind !== 'read' || views.get(view.path)?.kind !== 'freeze') add(view);
  }
  if (views.size > MOST_VIEWS) throw new ClawError('CONFIG_INVALID', `${views.size} paths are closed to other users`, { hint: 'chmod -R o+rX' });
  const needed = new Map<string, View>();
  for (const view of [...views.values()].toSorted((a, b) => (a.path < b.path ? -1 : 1))) if (isNeeded(view, needed)) needed.set(view.path, view);
  return [...needed.values()];
}

function resolved(path: string): string {
  try {
    return realpathSync(path);
  } catch (cause) {
    // A directory that came into being later would be visible, so its absence is no reason to go on.
    throw new ClawError('CONFIG_INVALID', `${path} must exist before a process is confined`, { cause });
  }
}

function resolvedIfThere(path: string): string[] {
  try {
    return [realpathSync(path)].filter((real) => real !== '/');
  } catch (error) {
    // What the agent cannot reach, a process with fewer rights cannot either.
    if (error instanceof Error && 'code' in error && ['ENOENT', 'ENOTDIR', 'EACCES'].includes(String(error.code))) return [];
    throw error;
  }
}

/** Those of this user: he may enter them. One that is only now coming into being is not told of yet. */
function otherSandboxes(path: string): string[] {
  for (let folder = path; folder !== '/'; folder = dirname(folder)) {
    if (!basename(folder).startsWith(SANDBOX_PREFIX)) continue;
    const parent = dirname(folder);
    const beside = readdirSync(parent).filter((name) => name.startsWith(SANDBOX_PREFIX) && name !== basename(folder));
    return beside.map((name) => join(parent, name)).filter(isOwnDirectory);
  }
  return [];
}

/** Not what a link of that name, which anybody can make in a directory for temporary files, leads to. */
function isOwnDirectory(path: string): boolean {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  return stats?.isDirectory() === true && stats.uid === getuid?.();
}

function closedAncestors(path: string): string[] {
  const closed: string[] = [];
  for (let folder = dirname(path); folder !== '/'; folder = dirname(folder)) if (!isOpen(folder, 'search')) closed.push(folder);
  return closed;
}

/** The path itself if others may use it, else the parts of it that they may; what is closed to them stays closed. */
function openParts(path: string, access: 'read' | 'write', uid: number | undefined): View[] {
  // What is written to belongs to the process's uid, which the caller has seen to.
  if (uid === undefined || access === 'write' || isOpen(path, 'read')) return [{ kind: access, path }];
  if (!statSync(path).isDirectory()) return [];
  const parts = readdirSync(path, { withFileTypes: true }).filter((entry) => entry.isDirectory() || entry.isFile());
  return [{ kind: 'cover', path }, ...parts.flatMap(({ name }) => openParts(join(path, name), access, uid))];
}

function isOpen(path: string, use: 'read' | 'search'): boolean {
  const stats = statSync(path);
  const wanted = use === 'search' ? 0o001 : stats.isDirectory() ? 0o005 : 0o004;
  return (stats.mode & wanted) === wanted;
}

/** Whether it changes anything, given the views above it that do. */
function isNeeded(view: View, needed: ReadonlyMap<string, View>): boolean {
  const above = nearestAbove(view.path, needed);
  if (view.kind === 'cover') return above !== 'cover';
  if (view.kind === 'freeze') return above === undefined || above === 'write';
  return view.kind === 'read' ? above === 'cover' : above !== undefined && above !== 'write';
}

function nearestAbove(path: string, views: ReadonlyMap<string, View>): View['kind'] | undefined {
  for (let folder = dirname(path); folder !== '/'; folder = dirname(folder)) {
    const above = views.get(folder);
    if (above !== undefined) return above.kind;
  }
  return undefined;
}
