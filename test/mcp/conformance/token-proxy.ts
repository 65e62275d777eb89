/** Stands before our HTTP stack for a client that knows no token: adds it, and passes everything else on as it came, both ways. */
import { once } from 'node:events';
import { createServer, request } from 'node:http';
import { pipeline } from 'node:stream/promises';

export interface TokenProxy extends AsyncDisposable {
  readonly url: string;
  /** Content types of answers to a POST, in the order of the answers. */
  readonly answered: string[];
}

export async function openTokenProxy({ port, token }: { port: number; token: string }): Promise<TokenProxy> {
  const answered: string[] = [];
  const server = createServer((incoming, answer) => {
    // Host and Origin too are the client's own.
    const headers = { ...incoming.headers, authorization: `Bearer ${token}` };
    const outgoing = request({ host: '127.0.0.1', port, method: incoming.method, path: incoming.url, headers, agent: false }, (response) => {
      if (incoming.method === 'POST') answered.push(response.headers['content-type'] ?? '');
      answer.writeHead(response.statusCode ?? 502, response.headers);
      answer.flushHeaders();
      pipeline(response, answer).catch(() => outgoing.destroy());
    });
    outgoing.on('error', () => answer.destroy());
    pipeline(incoming, outgoing).catch(() => answer.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (typeof address !== 'object' || address === null) throw new Error('it listens on no port');
  return {
    url: `http://127.0.0.1:${address.port}`,
    answered,
    [Symbol.asyncDispose]: async () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
