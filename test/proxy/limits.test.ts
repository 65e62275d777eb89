/** Timeouts, sizes and connection caps on the real process, small enough to be reached. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { dial, eventually, exchange, fetchText, rawRequest, rule, startBackend, startProxy, statusOf, type Backend, type TestProxy } from './harness.ts';

const LIMITS = { clientHeadersTimeoutMs: 1_000, clientKeepAliveMs: 1_000, idleTimeoutMs: 2_500, maxHeaderBytes: 4_096, maxBodyBytes: 10_000, maxConnectionsPerClient: 400, maxPipelinedRequests: 2, maxRequestsPerEndpoint: 3 };

let proxy: TestProxy;
let backend: Backend;

before(async () => {
  backend = await startBackend((request, response) => {
    request.resume();
    request.once('end', () => setTimeout(() => response.end('served'), request.url === '/slow' ? 500 : 0));
  });
  proxy = await startProxy({ limits: LIMITS });
  await proxy.setRoutes(rule('a.test', [backend.target]));
});

after(async () => {
  await proxy.stop();
  await backend.close();
});

async function open(count: number): Promise<Socket[]> {
  const sockets = Array.from({ length: count }, () => dial(proxy.port).on('error', () => undefined));
  await Promise.all(sockets.map((socket) => once(socket, 'connect')));
  return sockets;
}

test('300 clients that send their header slowly leave it serving, and are sent away', async () => {
  const slow = await open(300);
  for (const socket of slow) socket.write('GET / HTTP/1.1\r\nHost: a');
  let first = '';
  slow[0]?.setEncoding('latin1').on('data', (text: string) => (first += text));
  for (const socket of slow.slice(1)) socket.resume();
  await eventually(async () => ((await proxy.health()).connections === 300 ? true : undefined));
  for (let index = 0; index < 20; index += 1) assert.equal((await fetchText(proxy.port, { host: 'a.test' })).status, 200);
  await eventually(async () => ((await proxy.health()).connections === 0 ? true : undefined));
  assert.equal(statusOf(first), 408);
});

test('one address holds no more connections than it may', async () => {
  const sockets = await open(400);
  await eventually(async () => ((await proxy.health()).connections === 400 ? true : undefined));
  assert.equal(await exchange(proxy.port, rawRequest('a.test')), '');
  for (const socket of sockets) socket.destroy();
  await eventually(async () => ((await proxy.health()).connections === 0 ? true : undefined));
  assert.equal(statusOf(await exchange(proxy.port, rawRequest('a.test'))), 200);
});

test('a header that is too large gets 431', async () => {
  assert.equal(statusOf(await exchange(proxy.port, rawRequest('a.test', 'GET / HTTP/1.1', [`X-A: ${'x'.repeat(5_000)}`]))), 431);
  assert.equal(statusOf(await exchange(proxy.port, rawRequest('a.test', 'GET / HTTP/1.1', Array.from({ length: 700 }, (_, index) => `X-${index}: 1`)))), 431);
});

test('many small fields all pass', async () => {
  const fields = Array.from({ length: 400 }, (_, index) => `F${index}: 1`);
  let last: string | string[] | undefined;
  const seeing = await startBackend((request, response) => {
    last = request.headers['f399'];
    response.end();
  });
  await proxy.setRoutes(rule('a.test', [backend.target]), rule('many.test', [seeing.target]));
  assert.equal(statusOf(await exchange(proxy.port, rawRequest('many.test', 'GET / HTTP/1.1', fields))), 200);
  assert.equal(last, '1');
  await seeing.close();
});

test('a body that is too large gets 413, announced or not', async () => {
  assert.equal(statusOf(await exchange(proxy.port, rawRequest('a.test', 'POST / HTTP/1.1', ['Content-Length: 10001'], 'x'.repeat(10_001)))), 413);
  const chunk = `3e8\r\n${'x'.repeat(1_000)}\r\n`;
  assert.equal(statusOf(await exchange(proxy.port, rawRequest('a.test', 'POST / HTTP/1.1', ['Transfer-Encoding: chunked'], `${chunk.repeat(11)}0\r\n\r\n`))), 413);
  assert.equal(statusOf(await exchange(proxy.port, rawRequest('a.test', 'POST / HTTP/1.1', ['Transfer-Encoding: chunked'], `${chunk.repeat(10)}0\r\n\r\n`))), 200);
  assert.equal(statusOf(await exchange(proxy.port, rawRequest('a.test', 'POST / HTTP/1.1', ['Expect: 100-continue', 'Content-Length: 10001']))), 413);
});

test('an idle connection is closed', async () => {
  const text = await exchange(proxy.port, 'GET / HTTP/1.1\r\nHost: a.test\r\n\r\n');
  assert.match(text, /served/);
});

test('a body that stops coming ends the request', async () => {
  const text = await exchange(proxy.port, 'POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\nhalf');
  assert.doesNotMatch(text, / 200 /);
  await eventually(async () => ((await proxy.health()).active === 0 ? true : undefined));
});

test('more pipelined requests than allowed end the connection', async () => {
  const text = await exchange(proxy.port, 'GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n'.repeat(20));
  assert.equal(text, '');
  await eventually(async () => ((await proxy.health()).active === 0 ? true : undefined));
});

test('an endpoint gets no more requests at once than it may; the others hear 503', async () => {
  const statuses = await Promise.all(Array.from({ length: 5 }, async () => (await fetchText(proxy.port, { host: 'a.test', path: '/slow' })).status));
  assert.deepEqual(statuses.toSorted((a, b) => a - b), [200, 200, 200, 503, 503]);
});
