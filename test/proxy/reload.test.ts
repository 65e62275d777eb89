/** Route changes while requests run, refused rules and versions, on the real process. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, request as httpRequest } from 'node:http';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { dial, eventually, fetchText, rule, startBackend, startProxy, targetOf, type Backend, type TestProxy } from './harness.ts';

const refusedShape = z.looseObject({ refused: z.array(z.looseObject({ index: z.int(), path: z.string().optional(), reason: z.string() })) });
const staleShape = z.looseObject({ version: z.int(), error: z.looseObject({ code: z.literal('CONFLICT') }) });

let proxy: TestProxy;
let backends: Backend[];

before(async () => {
  backends = await Promise.all(['one', 'two', 'three'].map((name) => startBackend((request, response) => {
    if (request.url === '/slow') response.write('begin ');
    setTimeout(() => response.end(name), request.url === '/slow' ? 600 : 3);
  })));
  proxy = await startProxy();
});

after(async () => {
  await proxy.stop();
  for (const backend of backends) await backend.close();
});

test('before the first snapshot requests are told to come again', async () => {
  assert.equal((await fetchText(proxy.port, { host: 'a.test' })).status, 503);
  assert.equal((await proxy.health()).version, null);
});

test('50 route changes under load break no request', async () => {
  const targets = backends.map((backend) => backend.target);
  await proxy.setRoutes(rule('a.test', targets));
  const agent = new Agent({ keepAlive: true, maxSockets: 12 });
  const outcomes = new Map<string, number>();
  const done = new AbortController();
  const client = async (path: string): Promise<void> => {
    while (!done.signal.aborted) {
      const outcome = await new Promise<string>((resolve) => {
        httpRequest({ host: '127.0.0.1', port: proxy.port, path, method: path === '/post' ? 'POST' : 'GET', headers: { host: 'a.test' }, agent }, (message) => {
          message.resume().once('end', () => resolve(String(message.statusCode))).once('error', (error) => resolve(error.message));
        }).once('error', (error) => resolve(error.message)).end(path === '/post' ? 'x'.repeat(10_000) : undefined);
      });
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    }
  };
  const clients = ['/', '/', '/x', '/x/y', '/post', '/post', '/slow', '/slow'].map(client);
  for (let round = 0; round < 50; round += 1) {
    const [a, b] = [targets[round % 3], targets[(round + 1) % 3]];
    assert.ok(a !== undefined && b !== undefined);
    await proxy.setRoutes(...(round % 2 === 0 ? [rule('a.test', [a])] : [rule('a.test', [a, b]), rule('a.test', [b], '/x')]));
    await sleep(20);
  }
  done.abort();
  await Promise.all(clients);
  agent.destroy();
  assert.deepEqual([...outcomes.keys()], ['200']);
  assert.ok((outcomes.get('200') ?? 0) > 500);
});

test('an endpoint that leaves the routes finishes what runs, then its connections close', async () => {
  const [first, second] = backends;
  assert.ok(first !== undefined && second !== undefined);
  await proxy.setRoutes(rule('a.test', [first.target]));
  const running = fetchText(proxy.port, { host: 'a.test', path: '/slow' });
  await sleep(100);
  await proxy.setRoutes(rule('a.test', [second.target]));
  assert.equal((await fetchText(proxy.port, { host: 'a.test' })).body, 'two');
  assert.equal((await running).body, 'begin one');
  await eventually(async () => (first.sockets.size === 0 ? true : undefined));
  assert.equal((await proxy.health()).endpoints, 1);
});

test('bad rules are refused alone, and none of their requests falls to another rule', async () => {
  const target = backends[0]?.target ?? targetOf(1);
  const good = rule('a.test', [target]);
  const body = await proxy.control('PUT', '/v1/routes', {
    version: 1_000,
    routes: [
      good,
      { ...good, host: 'not a host' },
      { ...good, path: 'no-slash' },
      { ...good, path: '/a/../b' },
      { ...good },
      { ...good, path: '/vip', targets: [{ ip: '10.201.0.1', port: 80 }] },
      { ...good, path: '/meta', targets: [{ ip: '169.254.169.254', port: 80 }] },
      { ...good, path: '/some', targets: [{ ip: '224.0.0.1', port: 80 }, target] },
      { ...good, path: '/port', targets: [{ ip: '10.0.0.1', port: 0 }] },
      { ...good, path: '/odd', surprise: true },
      'nonsense',
      { ...good, host: 'last.test' },
    ],
  });
  assert.equal(body.status, 200);
  const { refused } = refusedShape.parse(body.body);
  assert.deepEqual(refused.map((entry) => entry.index), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  for (const entry of refused) assert.ok(entry.reason.length > 5);
  assert.equal(refused[4]?.path, '/vip');
  assert.match(refused[5]?.reason ?? '', /169\.254\.169\.254.*metadata/);
  for (const path of ['/vip', '/meta', '/port', '/odd']) assert.equal((await fetchText(proxy.port, { host: 'a.test', path })).status, 503, path);
  for (const path of ['/', '/some', '/no-slash']) assert.equal((await fetchText(proxy.port, { host: 'a.test', path })).status, 200, path);
  assert.equal((await fetchText(proxy.port, { host: 'last.test' })).status, 200);
});

test('an older version is refused, the same one applies again', async () => {
  const routes = [rule('a.test', [])];
  assert.deepEqual(await proxy.control('PUT', '/v1/routes', { version: 2_000, routes }), { status: 200, body: { version: 2_000, refused: [] } });
  assert.equal((await proxy.control('PUT', '/v1/routes', { version: 2_000, routes })).status, 200);
  const stale = await proxy.control('PUT', '/v1/routes', { version: 1_999, routes: [] });
  assert.equal(stale.status, 409);
  assert.equal(staleShape.parse(stale.body).version, 2_000);
  assert.equal((await proxy.health()).version, 2_000);
});

test('what is no snapshot changes nothing', async () => {
  for (const body of ['{', '[]', '{}', { version: -1, routes: [] }, { version: 3_000, routes: {} }, { version: 3_000, routes: [], more: 1 }]) {
    assert.equal((await proxy.control('PUT', '/v1/routes', body)).status, 400);
  }
  assert.equal((await proxy.control('GET', '/v1/routes')).status, 404);
  assert.equal((await proxy.health()).version, 2_000);
});

test('a connection stays open over a route change', async () => {
  const [first, second] = backends;
  assert.ok(first !== undefined && second !== undefined);
  await proxy.control('PUT', '/v1/routes', { version: 4_000, routes: [rule('a.test', [first.target])] });
  const socket = dial(proxy.port).setEncoding('latin1');
  const ask = async (): Promise<string> => {
    socket.write('GET / HTTP/1.1\r\nHost: a.test\r\n\r\n');
    let text = '';
    while (!/one|two/.test(text)) text += String((await once(socket, 'data'))[0]);
    return text;
  };
  assert.match(await ask(), /one/);
  await proxy.control('PUT', '/v1/routes', { version: 4_001, routes: [rule('a.test', [second.target])] });
  assert.match(await ask(), /two/);
  socket.destroy();
});

test('100,000 rules are applied and found', async (context) => {
  const target = backends[2]?.target ?? targetOf(1);
  const routes = Array.from({ length: 100_000 }, (_, index) => rule(`h${index % 1_000}.test`, [target], `/p${index}`));
  const startedAt = performance.now();
  assert.equal((await proxy.control('PUT', '/v1/routes', { version: 5_000, routes })).status, 200);
  context.diagnostic(`100,000 rules applied in ${Math.round(performance.now() - startedAt)} ms`);
  assert.equal((await fetchText(proxy.port, { host: 'h999.test', path: '/p99999/x' })).body, 'three');
  assert.equal((await fetchText(proxy.port, { host: 'h999.test', path: '/p99998' })).status, 404);
});
