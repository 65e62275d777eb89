/** Publishing a unix socket on the loopback: every byte, both ends, and failures passed on. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { after, test } from 'node:test';
import { publish } from '../../src/sandbox/publish.ts';

const directory = await mkdtemp(join(tmpdir(), 'claw-publish-'));
const FIRST_PORT = 21_443;
const closers: (() => Promise<void>)[] = [];
let sockets = 0;

after(async () => {
  for (const close of closers) await close();
  await rm(directory, { recursive: true });
});

/** A server on a unix socket that is published; gives the port. */
async function published(handle: (socket: Socket) => void): Promise<number> {
  sockets += 1;
  const socketPath = join(directory, `${sockets}.sock`);
  const open = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    open.add(socket);
    handle(socket);
  }).listen(socketPath);
  await once(server, 'listening');
  const { port, close } = await publish({ socketPath, firstPort: FIRST_PORT });
  closers.push(close, () => {
    for (const socket of open) socket.destroy();
    return closed(server);
  });
  return port;
}

async function closed(server: Server): Promise<void> {
  const done = once(server, 'close');
  server.close();
  await done;
}

test('20 MB arrive whole in both directions, the answer only after the end of the request', async () => {
  const port = await published((socket) => {
    void buffer(socket).then((request) => socket.end(request));
  });
  const sent = randomBytes(20 * 1024 * 1024);
  const client = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  client.end(sent);
  const received = await buffer(client);
  assert.ok(received.equals(sent));
});

test('a server that ends first still receives what the client says after that', async () => {
  const received = Promise.withResolvers<Buffer>();
  const port = await published((socket) => {
    socket.end('bye');
    buffer(socket).then(received.resolve, received.reject);
  });
  const client = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  assert.equal((await buffer(client)).toString(), 'bye');
  const late = randomBytes(5 * 1024 * 1024);
  client.end(late);
  assert.ok((await received.promise).equals(late));
});

test('a socket nobody listens on resets the client instead of leaving it waiting', async () => {
  const { port, close } = await publish({ socketPath: join(directory, 'none.sock'), firstPort: FIRST_PORT });
  closers.push(close);
  const client = connect({ port, host: '127.0.0.1' });
  const [error] = await once(client, 'error');
  assert.equal(error.code, 'ECONNRESET');
});

test('a taken port is passed over, and closing frees the port and cuts what is open', async () => {
  const port = await published((socket) => void socket.write('hello'));
  const { port: other, close } = await publish({ socketPath: join(directory, `${sockets}.sock`), firstPort: port });
  assert.ok(other > port);
  const client = connect({ port: other, host: '127.0.0.1' });
  await once(client, 'data');
  const end = once(client, 'close');
  await close();
  await end;
  const again = createServer().listen(other, '127.0.0.1');
  await once(again, 'listening');
  await closed(again);
});
