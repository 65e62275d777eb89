/** Binds servers to their addresses and says in our terms why that failed. */
import type { Server } from 'node:net';
import { ClawError } from '../errors.ts';
import type { ListenAddress } from './config.ts';
import { claimSocketPath } from './unix-socket.ts';

/** Resolves when the server listens. Throws ClawError `CONFLICT` (address in use), `PERMISSION_DENIED` or `INTERNAL`. */
export async function listenOn(server: Server, address: ListenAddress): Promise<void> {
  if ('path' in address) await claimSocketPath(address.path);
  await new Promise<void>((resolve, reject) => {
    const onError = (error: Error): void => reject(listenError(error, address));
    server.once('error', onError);
    server.listen({ ...address, backlog: 1024 }, () => {
      server.off('error', onError);
      resolve();
    });
  });
}

/** Where the server really listens: `host:port` or a path. */
export function boundAddress(server: Server): string {
  const address = server.address();
  if (address === null || typeof address === 'string') return address ?? '';
  return address.family === 'IPv6' ? `[${address.address}]:${address.port}` : `${address.address}:${address.port}`;
}

function listenError(error: Error, address: ListenAddress): ClawError {
  const where = 'path' in address ? address.path : `${address.host}:${address.port}`;
  const code = 'code' in error ? error.code : undefined;
  if (code === 'EADDRINUSE') {
    return new ClawError('CONFLICT', `${where} is in use by another process`, { cause: error, hint: `Find it with \`ss -ltnp\`, or choose another port.` });
  }
  if (code === 'EACCES') {
    return new ClawError('PERMISSION_DENIED', `this process may not listen on ${where}`, { cause: error, hint: 'Choose a port above 1023.' });
  }
  return new ClawError('INTERNAL', `cannot listen on ${where}: ${error.message}`, { cause: error });
}
