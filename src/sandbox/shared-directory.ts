/** The directory that a sandbox shares with the outer process: sockets, state, log. Removes only what sandboxes left behind. */
import { chmod, mkdir, mkdtemp, readFile, readdir, readlink, realpath, rm, stat, writeFile } from 'node:fs/promises';
import { findPackageJSON } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { getuid } from 'node:process';
import { ClawError } from '../errors.ts';
import { INIT_SCRIPT, launcherScript } from './scripts.ts';

const PREFIX = 'clawnode-sandbox-';
const OWNER_FILE = 'owner';
/** sockaddr_un.sun_path holds 108 bytes, the last of them NUL. */
const MAX_SOCKET_PATH_BYTES = 107;

export interface SharedDirectory {
  readonly path: string;
  readonly stateDir: string;
  readonly agentSocket: string;
  readonly ingressSocket: string;
  readonly agentLog: string;
  /** PID 1's script. A file keeps it out of what `ps` shows. */
  readonly initScript: string;
  /** Holds `clawnode`, this very program, for the PATH of whoever is inside. */
  readonly programs: string;
  readonly remove: () => Promise<void>;
}

/** Makes a directory that only this user can enter. Throws SANDBOX_UNAVAILABLE where no place for its sockets is found. */
export async function createSharedDirectory(): Promise<SharedDirectory> {
  const parent = await place();
  await sweep(parent);
  const path = await mkdtemp(join(parent, PREFIX));
  const directory = {
    path,
    stateDir: join(path, 'state'),
    agentSocket: join(path, 'agent.sock'),
    // Beside the proxy's own socket: that directory is all the proxy may write to.
    ingressSocket: join(path, 'proxy', 'ingress.sock'),
    agentLog: join(path, 'agent.log'),
    initScript: join(path, 'init.sh'),
    programs: join(path, 'bin'),
    remove: () => rm(path, { recursive: true, force: true }),
  };
  await writeFile(join(path, OWNER_FILE), await identity(process.pid));
  await writeFile(directory.initScript, INIT_SCRIPT);
  await mkdir(directory.stateDir, { mode: 0o700 });
  await mkdir(directory.programs);
  await writeLauncher(join(directory.programs, 'clawnode'));
  // The sandbox has no way to a resolver; this one refuses at once, where the machine's own would time out.
  await writeFile(join(path, 'resolv.conf'), 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n');
  return directory;
}

async function writeLauncher(path: string): Promise<void> {
  const manifest = findPackageJSON(import.meta.url);
  if (manifest === undefined) throw new ClawError('INTERNAL', `no package.json lies above ${import.meta.dirname}`);
  await writeFile(path, launcherScript([process.execPath, join(dirname(manifest), 'bin', 'clawnode.js')]));
  // The creation mode would be narrowed by the caller's umask.
  await chmod(path, 0o755);
}

/** The system's place for temporary files, unless the sandbox will cover it or its name is too long for a socket. */
async function place(): Promise<string> {
  const longestName = `/${PREFIX}XXXXXX/proxy/ingress.sock`;
  for (const candidate of [tmpdir(), '/tmp', '/var/tmp']) {
    const real = await realpath(candidate).catch(() => undefined);
    if (real === undefined || /^\/(run|sys|proc)(\/|$)/.test(real)) continue;
    if (Buffer.byteLength(real + longestName) <= MAX_SOCKET_PATH_BYTES) return real;
  }
  throw new ClawError('SANDBOX_UNAVAILABLE', `neither ${tmpdir()} nor /tmp nor /var/tmp can hold the sandbox's sockets`, {
    hint: 'Set TMPDIR to a short path outside /run.',
  });
}

/** Removes the directories of sandboxes whose outer process was killed: it could not do that itself any more. */
async function sweep(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    if (name.startsWith(PREFIX)) await removeIfAbandoned(join(parent, name));
  }
}

async function removeIfAbandoned(path: string): Promise<void> {
  try {
    if ((await stat(path)).uid !== getuid?.()) return;
    const owner = await readFile(join(path, OWNER_FILE), 'utf8');
    const [namespace, pid] = owner.split(' ');
    // A pid says nothing in another pid namespace, and such a one may share our /tmp.
    if (namespace !== (await pidNamespace()) || (await isAlive(Number(pid), owner))) return;
    await rm(path, { recursive: true, force: true });
  } catch (error) {
    // Another starting sandbox may be removing the same directory, or still be writing its owner file.
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  }
}

async function isAlive(pid: number, owner: string): Promise<boolean> {
  return (await identity(pid).catch(() => undefined)) === owner;
}

/** Namespace, pid and start time: together they are never used twice. */
async function identity(pid: number): Promise<string> {
  const fields = await readFile(`/proc/${pid}/stat`, 'utf8');
  // The second field is the program's name in brackets and may hold anything; the start time is field 22.
  const startTime = fields.slice(fields.lastIndexOf(')') + 2).split(' ')[19];
  return `${await pidNamespace()} ${pid} ${startTime}`;
}

function pidNamespace(): Promise<string> {
  return readlink('/proc/self/ns/pid');
}
