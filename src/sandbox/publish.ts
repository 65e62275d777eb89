/** Publishes a unix socket as a TCP port on the outer loopback; it moves bytes and never looks at them. */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { ClawError } from '../errors.ts';

const HOST = '127.0.0.1';
const PORTS_TRIED = 100;

export interface Publication {
  readonly port: number;
  readonly close: () => Promise<void>;
}

/** Listens on 127.0.0.1 at `firstPort` or the next free port above it, and joins every connection to `socketPath`. */
export async function publish({ socketPath, firstPort }: { socketPath: string; firstPort: number }): Promise<Publication> {
  const sockets = new Set<Socket>();
  // Without allowHalfOpen Node would close the answer's way as soon as the client has said all it wants to say.
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const inner = connect({ path: socketPath, allowHalfOpen: true });
    join(client, inner);
    for (const socket of [client, inner]) {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
    }
  });
  const port = await listen(server, firstPort);
  return {
    port,
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

function join(client: Socket, inner: Socket): void {
  // `pipe` heeds backpressure and passes the end on; a failure it does not pass on, so each side's takes the other along.
  client.pipe(inner);
  inner.pipe(client);
  client.on('error', () => inner.destroy());
  // An answer that broke off must not look like one that is whole.
  inner.on('error', () => client.resetAndDestroy());
}

async function listen(server: Server, firstPort: number): Promise<number> {
  const lastPort = Math.min(firstPort + PORTS_TRIED - 1, 65_535);
  for (let port = firstPort; port <= lastPort; port += 1) {
    try {
      server.listen(port, HOST);
      await once(server, 'listening');
      return port;
    } catch (error) {
      const taken = error instanceof Error && 'code' in error && error.code === 'EADDRINUSE';
      if (!taken) throw error;
    }
  }
  throw new ClawError('LIMIT_EXCEEDED', `no port of ${HOST} between ${firstPort} and ${lastPort} is free`, {
    hint: 'Name another with --ingress-port.',
  });
}
