/** Bodies in both directions: flat memory, broken ends on either side, early answers. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { dial, eventually, exchange, rawRequest, residentBytes, rule, startBackend, startProxy, startRawBackend, statusOf, type Backend, type TestProxy } from './harness.ts';

const MEGABYTE = 1_048_576;
const SIZE = 300 * MEGABYTE;
/** Chunks that the garbage collector has not come to yet make up most of it; a proxy that stored the body would need 300 MB. */
const MAX_GROWTH = 110 * MEGABYTE;
/** While one side does not move, nothing may pile up. */
const MAX_STANDING_GROWTH = 24 * MEGABYTE;

let proxy: TestProxy;
const backends: Backend[] = [];

before(async () => {
  proxy = await startProxy();
});

after(async () => {
  await proxy.stop();
  for (const backend of backends) await backend.close();
});

async function route(backend: Backend): Promise<void> {
  backends.push(backend);
  await proxy.setRoutes(rule('a.test', [backend.target]));
}

/** The largest resident memory above what it was before, while the work runs. */
async function growthDuring(work: () => Promise<void>): Promise<number> {
  const atFirst = await residentBytes(proxy.pid);
  let peak = atFirst;
  const done = new AbortController();
  const watching = (async () => {
    while (!done.signal.aborted) {
      peak = Math.max(peak, await residentBytes(proxy.pid));
      await sleep(10);
    }
  })();
  await work();
  done.abort();
  await watching;
  return peak - atFirst;
}

test('300 MB to a client that reads late take flat memory', async (context) => {
  await route(await startBackend((_request, response) => {
    response.setHeader('Content-Length', SIZE);
    const chunk = Buffer.alloc(MEGABYTE, 'x');
    let left = SIZE;
    const pump = (): void => {
      while (left > 0) {
        left -= chunk.length;
        if (!response.write(chunk)) break;
      }
      if (left > 0) response.once('drain', pump);
      else response.end();
    };
    pump();
  }));
  let bytes = 0;
  const growth = await growthDuring(async () => {
    const socket = dial(proxy.port);
    socket.write(rawRequest('a.test'));
    const standing = await residentBytes(proxy.pid);
    await once(socket, 'readable');
    await sleep(500);
    assert.ok((await residentBytes(proxy.pid)) - standing < MAX_STANDING_GROWTH);
    socket.on('data', (chunk: Buffer) => (bytes += chunk.length));
    await once(socket, 'close');
  });
  context.diagnostic(`memory grew by ${Math.round(growth / MEGABYTE)} MB`);
  assert.ok(bytes > SIZE);
  assert.ok(growth < MAX_GROWTH, `${growth} bytes`);
});

test('300 MB to a backend that reads late take flat memory', async (context) => {
  let bytes = 0;
  await route(await startBackend((request, response) => {
    request.pause();
    setTimeout(() => request.on('data', (chunk: Buffer) => (bytes += chunk.length)).resume(), 500);
    request.once('end', () => response.end(String(bytes)));
  }));
  let answer = '';
  const growth = await growthDuring(async () => {
    const socket = dial(proxy.port);
    socket.setEncoding('latin1').on('data', (text: string) => (answer += text));
    socket.write(`POST / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: ${SIZE}\r\n\r\n`);
    const chunk = Buffer.alloc(MEGABYTE, 'x');
    for (let sent = 0; sent < SIZE; sent += chunk.length) if (!socket.write(chunk)) await once(socket, 'drain');
    await once(socket, 'close');
  });
  context.diagnostic(`memory grew by ${Math.round(growth / MEGABYTE)} MB`);
  assert.match(answer, new RegExp(`\\r\\n\\r\\n${SIZE}$`));
  assert.ok(growth < MAX_GROWTH, `${growth} bytes`);
});

for (const [what, header, part] of [
  ['Content-Length', 'Content-Length: 1000', 'part'],
  ['chunks', 'Transfer-Encoding: chunked', '4\r\npart\r\n'],
] as const) {
  test(`an upstream that dies in the middle of ${what} breaks the client's connection`, async () => {
    await route(await startRawBackend((socket) => {
      socket.once('data', () => {
        socket.write(`HTTP/1.1 200 OK\r\n${header}\r\n\r\n${part}`);
        setTimeout(() => socket.destroy(), 50);
      });
    }));
    const text = await exchange(proxy.port, 'GET / HTTP/1.1\r\nHost: a.test\r\n\r\n');
    assert.equal(statusOf(text), 200);
    assert.match(text, /part/);
    assert.doesNotMatch(text, /\r\n0\r\n\r\n$/);
  });
}

test('an HTTP/1.0 client, for whom the end of the connection ends the body, sees a reset', async () => {
  await route(await startRawBackend((socket) => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n');
      setTimeout(() => socket.destroy(), 50);
    });
  }));
  const socket = dial(proxy.port);
  socket.write('GET / HTTP/1.0\r\nHost: a.test\r\n\r\n');
  socket.resume();
  const [error] = await once(socket, 'error');
  assert.ok(error instanceof Error && 'code' in error && error.code === 'ECONNRESET');
});

test('a body whose end is the connection\'s end passes whole', async () => {
  await route(await startRawBackend((socket) => {
    socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\n\r\nuntil the end'));
  }));
  const text = await exchange(proxy.port, rawRequest('a.test'));
  assert.match(text, /until the end/);
  assert.match(text, /\r\n0\r\n\r\n$/);
});

test('a client that leaves while the answer runs is seen upstream', async () => {
  const backend = await startRawBackend((socket) => {
    socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\n\r\ndata'));
  });
  await route(backend);
  const socket = dial(proxy.port);
  socket.write('GET / HTTP/1.1\r\nHost: a.test\r\n\r\n');
  await once(socket, 'data');
  assert.equal(backend.sockets.size, 1);
  socket.destroy();
  await eventually(async () => (backend.sockets.size === 0 ? true : undefined));
  await eventually(async () => ((await proxy.health()).active === 0 ? true : undefined));
});

test('a client that leaves before the answer, or in the middle of its body, is seen upstream', async () => {
  const backend = await startRawBackend((socket) => socket.resume());
  await route(backend);
  for (const bytes of ['GET / HTTP/1.1\r\nHost: a.test\r\n\r\n', 'POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\nhalf']) {
    const socket = dial(proxy.port);
    socket.write(bytes);
    await eventually(async () => (backend.sockets.size === 1 ? true : undefined));
    socket.destroy();
    await eventually(async () => (backend.sockets.size === 0 ? true : undefined));
  }
  assert.equal((await proxy.health()).active, 0);
});

test('an answer before the end of the body reaches a client that is still sending', async () => {
  await route(await startRawBackend((socket) => {
    socket.once('data', () => socket.end('HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig'));
  }));
  const socket = dial(proxy.port);
  let text = '';
  socket.setEncoding('latin1').on('data', (chunk: string) => (text += chunk));
  socket.on('error', () => undefined);
  socket.write('POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5000000\r\n\r\n');
  const chunk = 'x'.repeat(50_000);
  for (let index = 0; index < 100; index += 1) {
    socket.write(chunk);
    await sleep(2);
  }
  await eventually(async () => (text.endsWith('big') ? true : undefined));
  assert.equal(statusOf(text), 413);
  // The body has been read to its end, so the connection can carry a next request.
  text = '';
  socket.write('GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n');
  await eventually(async () => (text.includes('no route') ? true : undefined));
  socket.destroy();
});
