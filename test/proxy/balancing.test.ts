/** How requests spread over endpoints, and what happens to them when endpoints refuse, die or stall. */
import assert from 'node:assert/strict';
import { Agent, request as httpRequest } from 'node:http';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createEndpointRegistry, eject, pickEndpoint, readmit } from '../../src/proxy/endpoints.ts';
import { proxyLimits } from '../../src/proxy/config.ts';
import { exchange, fetchText, rawRequest, rule, startBackend, startProxy, startRawBackend, statusOf, targetOf, type Backend, type TestProxy } from './harness.ts';

let proxy: TestProxy;
const backends: Backend[] = [];

before(async () => {
  proxy = await startProxy({ limits: { connectTimeoutMs: 300, responseHeadersTimeoutMs: 500, idleTimeoutMs: 1_000 } });
});

after(async () => {
  await proxy.stop();
  for (const backend of backends) await backend.close();
});

async function backendNamed(name: string): Promise<Backend> {
  const backend = await startBackend((request, response) => {
    request.resume();
    request.once('end', () => response.end(name));
  });
  backends.push(backend);
  return backend;
}

async function rawBackend(onConnection: Parameters<typeof startRawBackend>[0]): Promise<Backend> {
  const backend = await startRawBackend(onConnection);
  backends.push(backend);
  return backend;
}

test('300 requests of four clients spread evenly over three endpoints', async () => {
  const names = ['one', 'two', 'three'];
  const targets = [];
  for (const name of names) targets.push((await backendNamed(name)).target);
  await proxy.setRoutes(rule('a.test', targets));
  const answers = (await Promise.all(Array.from({ length: 4 }, async () => {
    const bodies: string[] = [];
    for (let index = 0; index < 75; index += 1) bodies.push((await fetchText(proxy.port, { host: 'a.test' })).body);
    return bodies;
  }))).flat();
  for (const name of names) {
    const share = answers.filter((body) => body === name).length / answers.length;
    assert.ok(share > 0.2 && share < 0.47, `${name}: ${share}`);
  }
});

test('an endpoint that is killed under load fails no request while another lives', async () => {
  const [victim, other, third] = [await backendNamed('victim'), await backendNamed('other'), await backendNamed('third')];
  await proxy.setRoutes(rule('a.test', [victim.target, other.target, third.target]));
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  const statuses = new Map<number | string, number>();
  const done = new AbortController();
  const client = async (method: string): Promise<void> => {
    while (!done.signal.aborted) {
      const status = await new Promise<number | string>((resolve) => {
        httpRequest({ host: '127.0.0.1', port: proxy.port, method, headers: { host: 'a.test' }, agent }, (message) => {
          message.resume().once('end', () => resolve(message.statusCode ?? 0));
        }).once('error', (error) => resolve(error.message)).end();
      });
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
    }
  };
  const clients = ['GET', 'GET', 'PUT', 'DELETE'].map(client);
  await sleep(200);
  await victim.close();
  await sleep(200);
  await other.close();
  await sleep(400);
  done.abort();
  await Promise.all(clients);
  agent.destroy();
  assert.deepEqual([...statuses.keys()], [200]);
  assert.ok((statuses.get(200) ?? 0) > 100);
});

test('a refused connection is tried elsewhere whatever the method, with the body still whole', async () => {
  const dead = await backendNamed('dead');
  await dead.close();
  const alive = await startBackend((request, response) => void request.pipe(response));
  backends.push(alive);
  for (let round = 0; round < 4; round += 1) {
    await proxy.setRoutes(rule('a.test', [dead.target, alive.target]));
    const { status, body } = await fetchText(proxy.port, { host: 'a.test', method: 'POST', body: `body ${round}` });
    assert.deepEqual([status, body], [200, `body ${round}`]);
  }
});

test('an idle connection that the endpoint closed is no error', async () => {
  let served = 0;
  const backend = await rawBackend((socket) => {
    socket.once('data', () => {
      served += 1;
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      // The second request on this connection is read and thrown away, as when the close and the request cross.
      socket.once('data', () => socket.destroy());
    });
  });
  await proxy.setRoutes(rule('a.test', [backend.target]));
  for (let index = 0; index < 10; index += 1) assert.equal((await fetchText(proxy.port, { host: 'a.test' })).status, 200);
  assert.equal(served, 10);
});

test('an idle connection that was closed in time is not used, also by a POST', async () => {
  const backend = await rawBackend((socket) => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      setTimeout(() => socket.end(), 5);
    });
  });
  await proxy.setRoutes(rule('a.test', [backend.target]));
  for (let index = 0; index < 10; index += 1) {
    assert.equal((await fetchText(proxy.port, { host: 'a.test', method: 'POST', body: 'x' })).status, 200);
    await sleep(20);
  }
});

test('a request that an endpoint may have acted on is not repeated', async () => {
  let seen = 0;
  const dying = (): Promise<Backend> => rawBackend((socket) => {
    socket.once('data', () => {
      seen += 1;
      socket.destroy();
    });
  });
  await proxy.setRoutes(rule('a.test', [(await dying()).target, (await dying()).target]));
  assert.equal((await fetchText(proxy.port, { host: 'a.test', method: 'POST', body: 'pay' })).status, 502);
  assert.equal((await fetchText(proxy.port, { host: 'a.test', method: 'POST' })).status, 502);
  assert.equal((await fetchText(proxy.port, { host: 'a.test', method: 'PUT', body: 'read' })).status, 502);
  assert.equal(seen, 3);
  seen = 0;
  assert.equal((await fetchText(proxy.port, { host: 'a.test' })).status, 502);
  assert.equal(seen, 2, 'a GET is repeated once');
});

test('502 when nobody accepts, 504 when nobody answers', async () => {
  const dead = await backendNamed('dead');
  await dead.close();
  const silent = await rawBackend((socket) => socket.resume());
  await proxy.setRoutes(rule('dead.test', [dead.target]), rule('silent.test', [silent.target]), rule('none.test', []));
  assert.equal(statusOf(await exchange(proxy.port, rawRequest('dead.test'))), 502);
  assert.equal(statusOf(await exchange(proxy.port, rawRequest('silent.test'))), 504);
  const none = await exchange(proxy.port, rawRequest('none.test'));
  assert.equal(statusOf(none), 503);
  assert.match(none, /Retry-After: 1/);
});

test('an answer that stalls is cut off', async () => {
  const stalling = await rawBackend((socket) => socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart')));
  await proxy.setRoutes(rule('a.test', [stalling.target]));
  const text = await exchange(proxy.port, 'GET / HTTP/1.1\r\nHost: a.test\r\n\r\n');
  assert.match(text, /part$/);
});

test('an endpoint that refused is left alone for a while, longer each time, and forgiven at once', () => {
  const registry = createEndpointRegistry(proxyLimits.parse({}));
  const group = registry.group({ targets: [targetOf(1), targetOf(2)] });
  const [first, second] = group.endpoints;
  assert.ok(first !== undefined && second !== undefined);
  const picks = (nowMs: number): Set<string | undefined> => new Set(Array.from({ length: 50 }, () => pickEndpoint(group, { tried: new Set(), nowMs, maxActive: 10 })?.key));
  eject(first, 1_000);
  eject(first, 1_500);
  assert.equal(first.ejectedUntilMs, 2_000, 'failures of one burst count once');
  assert.deepEqual(picks(1_999), new Set([second.key]));
  assert.deepEqual(picks(2_000), new Set([first.key, second.key]));
  eject(first, 2_000);
  assert.equal(first.ejectedUntilMs, 4_000);
  eject(second, 2_000);
  assert.deepEqual(picks(2_500), new Set([second.key]), 'with all ejected the one that is free first is tried');
  readmit(first);
  assert.deepEqual(picks(2_500), new Set([first.key]));
  first.active = 10;
  second.active = 10;
  assert.deepEqual(picks(9_000), new Set([undefined]), 'nobody is overloaded');
});

test('the less busy of two endpoints is chosen', () => {
  const registry = createEndpointRegistry(proxyLimits.parse({}));
  const group = registry.group({ targets: [targetOf(1), targetOf(2)] });
  const [busy, idle] = group.endpoints;
  assert.ok(busy !== undefined && idle !== undefined);
  busy.active = 5;
  for (let index = 0; index < 20; index += 1) assert.equal(pickEndpoint(group, { tried: new Set(), nowMs: 0, maxActive: 10 }), idle);
});
