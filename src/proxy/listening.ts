/** Binds servers to their addresses and says in our terms why that failed. */
import type { Server } from 'node:net';
import { ClawError } from '../errors.ts';
import type { ListenAddress } from './config.ts';
import { claimSocketPath } from './unix-socket.ts';

/** An inherited socket is listened on anew with this length of its queue. */
const BACKLOG = 4096;

/** Resolves when the server listens. Throws ClawError `CONFLICT` (address in use), `PERMISSION_DENIED` or `INTERNAL`. */
export async function listenOn(server: Server, address: ListenAddress): Promise<void> {
  if ('path' in address) await claimSocketPath(address.path);
  await new Promise<void>((resolve, reject) => {
    const onError = (error: Error): void => reject(listenError(error, address));
    server.once('error', onError);
    server.listen({ ...address, backlog: BACKLOG }, () => {
      server.off('error', onError);
      resolve();
    });
  });
}

/** Where the server really listens: `host:port`, a path, or the name of an inherited socket. */
export function boundAddress(server: Server, wanted: ListenAddress): string {
  if ('fd' in wanted) return wanted.name;
  const address = server.address();
  if (address === null || typeof address === 'string') return address ?? '';
  return address.family === 'IPv6' ? `[${address.address}]:${address.port}` : `${address.address}:${address.port}`;
}

function listenError(error: Error, address: ListenAddress): ClawError {
  const where = nameOf(address);
  const code = 'code' in error ? error.code : undefined;
  if (code === 'EADDRINUSE') {
    return new ClawError('CONFLICT', `${where} is in use by another process`, { cause: error, hint: `Find it with \`ss -ltnp\`, or choose another port.` });
  }
  if (code === 'EACCES') {
    return new ClawError('PERMISSION_DENIED', `this process may not listen on ${where}`, { cause: error, hint: 'Choose a port above 1023.' });
  }
  return new ClawError('INTERNAL', `cannot listen on ${where}: ${error.message}`, { cause: error });
}

function nameOf(address: ListenAddress): string {
  if ('fd' in address) return address.name;
  return 'path' in address ? address.path : `${address.host}:${address.port}`;
}
