/** Plans what a confined process sees of the file system: pure but for looking at paths; it mounts nothing (`confine.sh` does). */
import { readdirSync, realpathSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ClawError } from '../errors.ts';

export interface Exposure {
  readonly path: string;
  readonly access: 'read' | 'write';
}

export interface ViewRequest {
  /** Directories that must exist and look empty inside. */
  readonly hide: readonly string[];
  /** Files and directories that stay visible at their own paths, below a hidden directory too. */
  readonly expose?: readonly Exposure[];
  /** The process's own uid; without one it has the agent's, and may then traverse what the agent may. */
  readonly uid?: number | undefined;
}

/** One mount of the private view; the order in a list is the order of mounting. */
export interface View {
  readonly kind: 'cover' | 'read' | 'write';
  readonly path: string;
}

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
  for (const path of request.hide) add({ kind: 'cover', path: resolved(path) });
  for (const { path, access } of request.expose ?? []) {
    const real = resolved(path);
    if (request.uid !== undefined) for (const cover of closedAncestors(real)) if (!views.has(cover)) add({ kind: 'cover', path: cover });
    for (const view of openParts(real, access, request.uid)) add(view);
  }
  if (views.size > MOST_VIEWS) throw new ClawError('CONFIG_INVALID', `${views.size} paths are closed to other users`, { hint: 'chmod -R o+rX' });
  const sorted = [...views.values()].toSorted((a, b) => (a.path < b.path ? -1 : 1));
  return sorted.filter((view) => isNeeded(view, views));
}

function resolved(path: string): string {
  try {
    return realpathSync(path);
  } catch (cause) {
    // A directory that came into being later would be visible, so its absence is no reason to go on.
    throw new ClawError('CONFIG_INVALID', `${path} must exist before a process is confined`, { cause });
  }
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

/** Below a cover only exposures are left to mount, elsewhere only covers change anything. */
function isNeeded(view: View, views: ReadonlyMap<string, View>): boolean {
  for (let folder = dirname(view.path); ; folder = dirname(folder)) {
    const above = views.get(folder);
    if (above !== undefined) return (above.kind === 'cover') !== (view.kind === 'cover');
    if (folder === '/') return view.kind === 'cover';
  }
}
