/** The ingress proxy as this node runs it: its program, its sockets, and what it may see. It feeds and watches nothing itself. */
import { chmod, chown, mkdir } from 'node:fs/promises';
import { findPackageJSON } from 'node:module';
import { dirname, extname, join } from 'node:path';
import type { Logger } from 'pino';
import { ClawError } from '../errors.ts';
import type { Cidr } from '../model/address.ts';
import type { Port } from '../model/address.ts';
import { readConfinedLog, startConfinedProcess } from './confined-process.ts';
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
  readonly forbiddenRanges: readonly Cidr[];
  readonly uid: number | undefined;
  readonly onLost: () => void;
  readonly logger: Logger;
}

const LOG_LINES = 3;

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
  const starting = new AbortController();
  const proxy = createIngressProxy({
    controlSocket,
    port,
    onLost: options.onLost,
    logger,
    lastWords: async () => (await readConfinedLog(directory, LOG_LINES)).join(' '),
    start: async () => {
      await startConfinedProcess(
        {
          directory,
          command: [process.execPath, join(import.meta.dirname, '..', 'proxy', `main${extname(import.meta.filename)}`), JSON.stringify(config)],
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

function packageRoot(): string {
  const manifest = findPackageJSON(import.meta.url);
  if (manifest === undefined) throw new ClawError('INTERNAL', 'this program lies in no package');
  return dirname(manifest);
}
