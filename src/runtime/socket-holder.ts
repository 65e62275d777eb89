/** Listening sockets that outlive whoever serves on them: opens them once, keeps a process that holds them; it accepts no connection itself. */
import { existsSync, renameSync, rmSync } from 'node:fs';
import { mkdir, rm, readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { umask } from 'node:process';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { start, type Argv } from '../drivers/exec.ts';
import { ClawError } from '../errors.ts';
import { isAlive, readBootId, signalProcess, type ProcessIdentity } from './process-table.ts';
import { SEARCH_PATH, writeWhole } from './supervisor.ts';

export type ListeningSocket = { readonly host: string; readonly port: number } | { readonly path: string };

/** A living process that has the sockets open and starts others that inherit them at SIGUSR1, and where it looks for what to start. */
export interface Holder {
  readonly directory: string;
  readonly process: ProcessIdentity;
}

/** The number of the first socket in every process that inherits them; the others follow. Below are those that shells can name. */
export const FIRST_SOCKET_FD = 10;

const SCRIPT = fileURLToPath(new URL('hold.sh', import.meta.url));
/** A busy machine may let many connections wait while nobody accepts them; the kernel takes at most net.core.somaxconn. */
const BACKLOG = 4096;
const START_TIMEOUT_MS = 5000;
const POLL_MS = 5;
/** A shell that was just about to wait when the signal came sees it at the next one. */
const SIGNAL_AGAIN_MS = 50;

/** The holder in this directory; undefined while none lives. */
export async function readHolder(directory: string): Promise<Holder | undefined> {
  const text = await readFile(join(directory, 'holder'), 'utf8').catch(() => '');
  const [pid, startTime, boot] = text.trim().split(' ');
  const process = { pid: Number(pid), startTime: Number(startTime) };
  return boot === readBootId() && isAlive(process) ? { directory, process } : undefined;
}

/**
 * Binds the sockets and hands them to a holder of their own. Throws ClawError `CONFLICT` when an address is in use, `PERMISSION_DENIED`,
 * `PROCESS_FAILED` when the holder does not come up.
 */
export async function openHolder(directory: string, sockets: readonly ListeningSocket[], signal: AbortSignal): Promise<Holder> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const names = sockets.map(boundName);
  for (const name of names) if ('path' in name) rmSync(name.path, { force: true });
  const servers = names.map(() => createServer());
  try {
    await Promise.all(servers.map((server, index) => listen(server, names[index] ?? { path: '' })));
    // From the first listen on this process has not come to its event loop's poll, and when it does they are closed: it accepts nothing.
    const unused = Array<'ignore'>(FIRST_SOCKET_FD).fill('ignore');
    start(holderArgv(directory), { detached: true, stdio: [...unused, ...servers.map(fdOf)], cwd: '/', env: { PATH: SEARCH_PATH } }).unref();
    for (const socket of sockets) if ('path' in socket) renameSync(`${socket.path}.new`, socket.path);
  } finally {
    for (const server of servers) server.close();
  }
  return await comesUp(directory, signal);
}

/** Makes a holder of the sockets that another process has. */
export async function renewHolder(directory: string, from: Holder, signal: AbortSignal): Promise<Holder> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await startThrough(from, holderArgv(directory), signal);
  return await comesUp(directory, signal);
}

/** Has the holder start a program with its sockets; resolves once it was started. Throws ClawError `PROCESS_FAILED`. */
export async function startThrough(holder: Holder, argv: Argv, signal: AbortSignal): Promise<void> {
  const [next, taken] = [join(holder.directory, 'next'), join(holder.directory, 'next.taken')];
  await writeWhole(next, `${argv.join('\0')}\0`);
  const deadline = Date.now() + START_TIMEOUT_MS;
  for (let waitedMs = 0; existsSync(next) || existsSync(taken); waitedMs += POLL_MS) {
    if (!isAlive(holder.process) || Date.now() > deadline) {
      await rm(next, { force: true });
      await rm(taken, { force: true });
      throw new ClawError('PROCESS_FAILED', `the process that holds the listening sockets did not start ${argv[0]}`);
    }
    if (waitedMs % SIGNAL_AGAIN_MS === 0 && existsSync(next)) signalProcess(holder.process, 'SIGUSR1');
    await delay(POLL_MS, undefined, { signal });
  }
}

/** Ends the holder. The sockets stay open for as long as others have them. Idempotent. */
export async function closeHolder(directory: string, signal: AbortSignal): Promise<void> {
  const holder = await readHolder(directory);
  if (holder !== undefined) signalProcess(holder.process, 'SIGKILL');
  while (holder !== undefined && isAlive(holder.process)) await delay(POLL_MS, undefined, { signal });
  await rm(directory, { recursive: true, force: true });
}

function holderArgv(directory: string): Argv {
  return ['/bin/sh', SCRIPT, directory];
}

async function comesUp(directory: string, signal: AbortSignal): Promise<Holder> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    const holder = await readHolder(directory);
    if (holder !== undefined) return holder;
    if (Date.now() > deadline) throw new ClawError('PROCESS_FAILED', `the process that holds the listening sockets did not come up within ${START_TIMEOUT_MS} ms`);
    await delay(POLL_MS, undefined, { signal });
  }
}

/** Where it is bound first: closing the server removes the name that it has bound. */
function boundName(socket: ListeningSocket): ListeningSocket {
  return 'path' in socket ? { path: `${socket.path}.new` } : socket;
}

function listen(server: Server, socket: ListeningSocket): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(listenError(error, socket)));
    // A socket file is for its own user alone from its first moment on; it is bound before `listen` returns.
    const before = umask(0o177);
    server.listen({ ...socket, backlog: BACKLOG }, resolve);
    umask(before);
  });
}

const withHandle = z.object({ _handle: z.object({ fd: z.int().min(0) }) });

/** Node shows the number of a listening socket nowhere else. */
function fdOf(server: Server): number {
  return withHandle.parse(server)._handle.fd;
}

function listenError(error: Error, socket: ListeningSocket): ClawError {
  const where = 'path' in socket ? socket.path : `${socket.host}:${socket.port}`;
  const code = 'code' in error ? error.code : undefined;
  if (code === 'EADDRINUSE') {
    return new ClawError('CONFLICT', `${where} is in use by another process`, { cause: error, hint: `Find it with \`ss -ltnp\`, or choose another port.` });
  }
  if (code === 'EACCES') return new ClawError('PERMISSION_DENIED', `this process may not listen on ${where}`, { cause: error });
  return new ClawError('INTERNAL', `cannot listen on ${where}: ${error.message}`, { cause: error });
}
