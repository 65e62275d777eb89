/** The ingress proxy as this node runs it: its program, its sockets, and what it may see. It feeds and watches nothing itself. */
import { existsSync } from 'node:fs';
import { chmod, chown, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { findPackageJSON } from 'node:module';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Logger } from 'pino';
import { ClawError } from '../errors.ts';
import type { Cidr, Port } from '../model/address.ts';
import { readConfinedExit, readConfinedLog, readConfinedProcess, startConfinedProcess, stopConfinedProcess } from './confined-process.ts';
import { createIngressProxy, type IngressProxy } from './ingress-proxy.ts';
import { createProxyWorker } from './proxy-worker.ts';
import { openRouteFile } from './route-file.ts';
import { closeHolder, FIRST_SOCKET_FD, openHolder, readHolder, renewHolder, startThrough, type ListeningSocket } from './socket-holder.ts';

export interface ConfinedProxyOptions {
  /** Where records, logs and routes are kept. */
  readonly directory: string;
  /** Holds the control sockets, and nothing that the proxy must not write to. */
  readonly socketDir: string;
  readonly hidden: readonly string[];
  readonly port: Port;
  /** A unix socket on which it listens too. */
  readonly publishSocket: string | undefined;
  /** Where that publishes it. */
  readonly publishedUrl: string | undefined;
  /** Of this program: a proxy of another one is replaced. */
  readonly version: string;
  readonly forbiddenRanges: readonly Cidr[];
  readonly uid: number | undefined;
  readonly onLost: () => void;
  readonly logger: Logger;
}

/** Two processes with the same sockets. One serves and the other stands by. */
const WORKERS = ['1', '2'] as const;
const RESPAWN = fileURLToPath(new URL('respawn.sh', import.meta.url));

export async function openConfinedProxy(options: ConfinedProxyOptions): Promise<IngressProxy> {
  const { directory, socketDir, port, publishSocket, uid, logger } = options;
  const starting = new AbortController();
  const { signal } = starting;
  await takeDirectories(options, signal);
  const routesFile = join(directory, 'routes', 'routes.json');
  const routeFile = await openRouteFile(routesFile, uid);
  const holderDirectory = join(directory, 'holder');
  const sockets: readonly ListeningSocket[] = [{ host: '0.0.0.0', port }, ...(publishSocket === undefined ? [] : [{ path: publishSocket }])];
  const listen = sockets.map((socket, index) => ({ fd: FIRST_SOCKET_FD + index, name: 'path' in socket ? socket.path : `${socket.host}:${socket.port}` }));
  const places = WORKERS.map((name) => ({ name, directory: join(directory, name), controlSocket: join(socketDir, `${name}.sock`) }));
  const program = [process.execPath, join(import.meta.dirname, '..', 'proxy', `main${extname(import.meta.filename)}`)] as const;
  const startedAs = { file: `${directory}.json`, text: JSON.stringify({ sockets, version: options.version, uid, program, forbiddenRanges: options.forbiddenRanges }) };

  const holdNow = async (): Promise<void> => {
    if ((await readHolder(holderDirectory)) !== undefined) return;
    for (const place of places) {
      const process = await readConfinedProcess(place.directory);
      if (process === undefined) continue;
      await renewHolder(holderDirectory, { directory: place.directory, process }, signal);
      return;
    }
    await openHolder(holderDirectory, sockets, signal);
  };
  // A holder starts one after the other, and is itself started once.
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = (work: () => Promise<void>): Promise<void> => {
    const done = last.then(work);
    last = done.catch(() => undefined);
    return done;
  };
  const hold = (): Promise<void> => inTurn(holdNow);
  const workers = places.map((place, index) => {
    const { controlSocket } = place;
    const sibling = { controlSocket: places[1 - index]?.controlSocket, yields: index > 0 };
    const config = { controlSocket, listen, routesFile, sibling, forbiddenRanges: options.forbiddenRanges };
    const start = async (): Promise<void> => {
      await startConfinedProcess(
        {
          directory: place.directory,
          command: ['/bin/sh', RESPAWN, ...program, JSON.stringify(config)],
          env: {},
          hide: options.hidden,
          expose: [
            { path: packageRoot(), access: 'read' },
            { path: process.execPath, access: 'read' },
            { path: socketDir, access: 'write' },
            { path: dirname(routesFile), access: 'read' },
          ],
          ...(uid === undefined ? {} : { uid }),
          startWith: (supervisor) =>
            inTurn(async () => {
              await holdNow();
              const holder = await readHolder(holderDirectory);
              if (holder === undefined) throw new ClawError('PROCESS_FAILED', 'the process that holds the sockets of the ingress is gone');
              await startThrough(holder, supervisor, signal);
            }),
        },
        signal,
      );
    };
    const stop = (graceMs: number): Promise<void> => stopConfinedProcess(place.directory, { graceMs }, signal);
    return createProxyWorker({ name: place.name, controlSocket, start, stop, lastWords: () => lastWordsOf(place.directory) }, logger);
  });

  const proxy = createIngressProxy({
    workers,
    routeFile,
    port,
    onLost: options.onLost,
    logger,
    publishedUrl: options.publishedUrl,
    hold,
    isHeld: async () => (await readHolder(holderDirectory)) !== undefined,
    findOutdated: async () => {
      const before = await readFile(startedAs.file, 'utf8').catch(() => undefined);
      if (before === startedAs.text) return new Set();
      if (before?.startsWith(JSON.stringify({ sockets }).slice(0, -1)) === true) return new Set(WORKERS);
      // Other sockets: whoever has the old ones has to go first.
      await stopEverything(directory, { graceMs: REPLACE_GRACE_MS }, signal);
      await writeFile(startedAs.file, startedAs.text, { mode: 0o600 });
      return new Set();
    },
    onReplaced: () => writeFile(startedAs.file, startedAs.text, { mode: 0o600 }),
  });
  return {
    ...proxy,
    close: async () => {
      starting.abort();
      await proxy.close();
    },
  };
}

/** Ends the ingress proxy and removes its directory. Idempotent. */
export async function stopConfinedProxy(directory: string, options: { graceMs: number }, signal: AbortSignal): Promise<void> {
  await stopEverything(directory, options, signal);
  await rm(directory, { recursive: true, force: true });
}

/** What requests get to end when a proxy with other sockets takes over. */
const REPLACE_GRACE_MS = 5000;

async function stopEverything(directory: string, options: { graceMs: number }, signal: AbortSignal): Promise<void> {
  await Promise.all(WORKERS.map((name) => stopConfinedProcess(join(directory, name), options, signal)));
  await closeHolder(join(directory, 'holder'), signal);
}

async function takeDirectories({ directory, socketDir, uid }: ConfinedProxyOptions, signal: AbortSignal): Promise<void> {
  // A single proxy, as earlier versions ran it, has the directory for itself.
  if (existsSync(join(directory, 'run'))) await stopConfinedProcess(directory, { graceMs: REPLACE_GRACE_MS }, signal);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await mkdir(socketDir, { recursive: true });
  await chmod(socketDir, 0o700);
  if (uid !== undefined) await chown(socketDir, uid, uid);
}

async function lastWordsOf(directory: string): Promise<string | undefined> {
  const exitCode = await readConfinedExit(directory);
  // One that was killed has nothing to say against being started again.
  if (exitCode === undefined || exitCode > 128) return undefined;
  const [line = 'it ended without a word'] = await readConfinedLog(directory, 1);
  return errorText(line);
}

/** The proxy's last line is an error as JSON; its message is what a person wants to read. */
function errorText(line: string): string {
  try {
    const error: unknown = JSON.parse(line);
    if (typeof error === 'object' && error !== null && 'message' in error && typeof error.message === 'string') return error.message;
    return line;
  } catch {
    return line;
  }
}

function packageRoot(): string {
  const manifest = findPackageJSON(import.meta.url);
  if (manifest === undefined) throw new ClawError('INTERNAL', 'this program lies in no package');
  return dirname(manifest);
}
