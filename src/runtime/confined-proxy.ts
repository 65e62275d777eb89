/** The ingress proxy as this node runs it: its program, its sockets, and what it may see. It feeds and watches nothing itself. */
import { chmod, chown, mkdir, readFile, writeFile } from 'node:fs/promises';
import { findPackageJSON } from 'node:module';
import { dirname, extname, join } from 'node:path';
import type { Logger } from 'pino';
import { ClawError } from '../errors.ts';
import type { Cidr, Port } from '../model/address.ts';
import { readConfinedExit, readConfinedLog, startConfinedProcess, stopConfinedProcess } from './confined-process.ts';
import { createIngressProxy, type IngressProxy } from './ingress-proxy.ts';

export interface ConfinedProxyOptions {
  /** Where its record and log are kept. */
  readonly directory: string;
  /** Holds its control socket, and nothing that it must not write to. */
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

/** What requests get to end when a proxy is replaced. */
const REPLACE_GRACE_MS = 5000;

export async function openConfinedProxy(options: ConfinedProxyOptions): Promise<IngressProxy> {
  const { directory, socketDir, port, publishSocket, uid, logger } = options;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await mkdir(socketDir, { recursive: true });
  await chmod(socketDir, 0o700);
  if (uid !== undefined) await chown(socketDir, uid, uid);
  const controlSocket = join(socketDir, 'control.sock');
  const config = {
    controlSocket,
    listen: [{ host: '0.0.0.0', port }, ...(publishSocket === undefined ? [] : [{ path: publishSocket }])],
    forbiddenRanges: options.forbiddenRanges,
  };
  const command = [process.execPath, join(import.meta.dirname, '..', 'proxy', `main${extname(import.meta.filename)}`), JSON.stringify(config)];
  // Beside its directory, which goes with it.
  const startedAs = { file: `${directory}.json`, text: JSON.stringify({ version: options.version, uid, command }) };
  const starting = new AbortController();
  const proxy = createIngressProxy({
    controlSocket,
    port,
    onLost: options.onLost,
    logger,
    publishedUrl: options.publishedUrl,
    retireOutdated: async () => {
      const before = await readFile(startedAs.file, 'utf8').catch(() => undefined);
      if (before === startedAs.text) return;
      if (before !== undefined) logger.info('the ingress proxy was started with another configuration and is replaced');
      await stopConfinedProcess(directory, { graceMs: REPLACE_GRACE_MS }, starting.signal);
      await mkdir(directory, { recursive: true, mode: 0o700 });
      await writeFile(startedAs.file, startedAs.text, { mode: 0o600 });
    },
    stop: async () => {
      await stopConfinedProcess(directory, { graceMs: 0 }, starting.signal);
      await mkdir(directory, { recursive: true, mode: 0o700 });
    },
    lastWords: async () => {
      if ((await readConfinedExit(directory)) === undefined) return undefined;
      const [line = 'it ended without a word'] = await readConfinedLog(directory, 1);
      return errorText(line);
    },
    start: async () => {
      await startConfinedProcess(
        {
          directory,
          command,
          env: {},
          hide: options.hidden,
          expose: [
            { path: packageRoot(), access: 'read' },
            { path: process.execPath, access: 'read' },
            { path: socketDir, access: 'write' },
          ],
          ...(uid === undefined ? {} : { uid }),
        },
        starting.signal,
      );
    },
  });
  return {
    ...proxy,
    close: async () => {
      starting.abort();
      await proxy.close();
    },
  };
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
