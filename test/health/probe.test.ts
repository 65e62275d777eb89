/** One probe against real servers: what counts as success, what a failure is called, and that no connection is left behind. */
import assert from 'node:assert/strict';
import type { IncomingHttpHeaders } from 'node:http';
import { describe, test } from 'node:test';
import { outcomeOf, probe } from '../../src/health/probe.ts';
import type { HealthCheck } from '../../src/model/health-check.ts';
import type { Port } from '../../src/model/address.ts';
import { closedPort, deafServer, httpCheck, httpServer, LOOPBACK, rawServer, tcpCheck, tcpServer, until } from './servers.ts';

const SUCCESS = { verdict: 'success' };
const never = new AbortController().signal;
const ask = async (port: Port, check: HealthCheck) => probe({ ip: LOOPBACK, port, check }, never);
const failure = (error: string) => ({ verdict: 'failure', error });

describe('tcp', () => {
  test('whoever accepts is healthy, and the connection is closed again in order', async () => {
    const ends: string[] = [];
    await using server = await tcpServer((socket) => socket.on('end', () => ends.push('end')).on('error', (error) => ends.push(error.message)));
    assert.deepEqual(await ask(server.port, tcpCheck()), SUCCESS);
    await until(() => ends.length > 0 && server.open() === 0, 'the server sees the end');
    assert.deepEqual(ends, ['end']);
  });

  test('nobody listens', async () => {
    assert.deepEqual(await ask(await closedPort(), tcpCheck()), failure('connection refused'));
  });

  test('no answer to the SYN', async () => {
    await using server = await deafServer();
    assert.deepEqual(await ask(server.port, tcpCheck({ timeoutMs: 100 })), failure('no answer within 100 ms'));
  });

  test('a pause of this process is not the fault of the target', async () => {
    await using server = await tcpServer();
    const outcome = ask(server.port, tcpCheck({ timeoutMs: 20 }));
    const pausedAt = performance.now();
    while (performance.now() - pausedAt < 100);
    assert.deepEqual(await outcome, SUCCESS);
  });
});

describe('http', () => {
  for (const status of [200, 204, 301, 302, 304, 399]) {
    test(`${status} is healthy`, async () => {
      let requests = 0;
      await using server = await httpServer((_request, response) => {
        requests += 1;
        response.writeHead(status, { location: '/elsewhere' }).end();
      });
      assert.deepEqual(await ask(server.port, httpCheck('/')), SUCCESS);
      await until(() => server.open() === 0, 'the connection closes');
      assert.equal(requests, 1, 'a redirect is not followed');
    });
  }

  for (const status of [400, 404, 429, 500, 503]) {
    test(`${status} is not`, async () => {
      await using server = await httpServer((_request, response) => response.writeHead(status).end('no'));
      assert.deepEqual(await ask(server.port, httpCheck('/')), failure(`HTTP ${status}`));
      await until(() => server.open() === 0, 'the connection closes');
    });
  }

  test('the request: GET, the path with its query, the address as Host, who asks, no kept connection', async () => {
    const seen: { method: string | undefined; url: string | undefined; headers: IncomingHttpHeaders }[] = [];
    await using server = await httpServer(({ method, url, headers }, response) => {
      seen.push({ method, url, headers });
      response.end('ok');
    });
    await ask(server.port, httpCheck('/healthz?full=1&x=%20'));
    const headers = { host: `127.0.0.1:${server.port}`, 'user-agent': 'clawnode-health-check/1', accept: '*/*', connection: 'close' };
    assert.deepEqual(seen, [{ method: 'GET', url: '/healthz?full=1&x=%20', headers }]);
  });

  test('nobody listens', async () => {
    assert.deepEqual(await ask(await closedPort(), httpCheck('/')), failure('connection refused'));
  });

  test('accepted, but never answered', async () => {
    await using server = await httpServer(() => undefined);
    assert.deepEqual(await ask(server.port, httpCheck('/', { timeoutMs: 100 })), failure('no answer within 100 ms'));
    await until(() => server.open() === 0, 'the connection closes');
  });

  test('headers that never end, a byte at a time', async () => {
    const timers: NodeJS.Timeout[] = [];
    await using server = await tcpServer((socket) => {
      socket.write('HTTP/1.1 200 OK\r\nx-slow: ');
      timers.push(setInterval(() => socket.write('a'), 10));
    });
    assert.deepEqual(await ask(server.port, httpCheck('/', { timeoutMs: 150 })), failure('no answer within 150 ms'));
    for (const timer of timers) clearInterval(timer);
    await until(() => server.open() === 0, 'the connection closes');
  });

  test('headers without bound', async () => {
    await using server = await rawServer(`HTTP/1.1 200 OK\r\nx-long: ${'a'.repeat(200_000)}`);
    assert.deepEqual(await ask(server.port, httpCheck('/')), failure('answer with more than 16384 bytes of headers'));
    await until(() => server.open() === 0, 'the connection closes');
  });

  test('informational answers without end', async () => {
    await using server = await rawServer('HTTP/1.1 102 Processing\r\n\r\n'.repeat(100));
    assert.deepEqual(await ask(server.port, httpCheck('/')), failure('informational answers without end'));
    await using patient = await rawServer(`${'HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(3)}HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n`);
    assert.deepEqual(await ask(patient.port, httpCheck('/')), SUCCESS);
  });

  test('a body without end is cut off, and the status counts', async () => {
    let sent = 0;
    await using server = await httpServer((_request, response) => {
      const more = (): void => {
        while (!response.destroyed && response.write(Buffer.alloc(16_384))) sent += 16_384;
      };
      response.on('drain', more);
      more();
    });
    assert.deepEqual(await ask(server.port, httpCheck('/')), SUCCESS);
    await until(() => server.open() === 0, 'the connection closes');
    // What the sockets buffer comes on top of what was read.
    assert.ok(sent < 50_000_000, `${sent} bytes`);
  });

  test('a body that never comes: the status counts when the time is over', async () => {
    await using server = await rawServer('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n123');
    assert.deepEqual(await ask(server.port, httpCheck('/', { timeoutMs: 100 })), SUCCESS);
    await using failing = await rawServer('HTTP/1.1 500 No\r\ncontent-length: 10\r\n\r\n123');
    assert.deepEqual(await ask(failing.port, httpCheck('/', { timeoutMs: 100 })), failure('HTTP 500'));
    await until(() => server.open() + failing.open() === 0, 'the connections close');
  });

  test('a body that breaks off: the status counts', async () => {
    await using server = await tcpServer((socket) => socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n123')));
    assert.deepEqual(await ask(server.port, httpCheck('/')), SUCCESS);
  });

  test('no HTTP at all, a connection closed at once, another protocol after the switch', async () => {
    await using ssh = await rawServer('SSH-2.0-OpenSSH_9.2\r\n');
    assert.deepEqual(await ask(ssh.port, httpCheck('/')), failure('the answer is not HTTP/1.1'));
    await using closing = await tcpServer((socket) => socket.end());
    assert.deepEqual(await ask(closing.port, httpCheck('/')), failure('connection reset or closed before the answer'));
    await using switching = await rawServer('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n');
    assert.deepEqual(await ask(switching.port, httpCheck('/')), failure('HTTP 101'));
    await until(() => ssh.open() + closing.open() + switching.open() === 0, 'the connections close');
  });
});

test('an abort rejects with its reason and closes the connection', async () => {
  await using server = await httpServer(() => undefined);
  const stop = new AbortController();
  const outcome = probe({ ip: LOOPBACK, port: server.port, check: httpCheck('/') }, stop.signal);
  await until(() => server.open() === 1, 'the connection opens');
  stop.abort(new Error('gone'));
  await assert.rejects(outcome, /gone/);
  await until(() => server.open() === 0, 'the connection closes');
  await assert.rejects(probe({ ip: LOOPBACK, port: server.port, check: tcpCheck() }, stop.signal), /gone/);
  assert.equal(server.accepted(), 1);
});

test('what this node lacks says nothing of the target', () => {
  const withCode = (code: string): Error => Object.assign(new Error(`connect ${code}`), { code });
  for (const code of ['EMFILE', 'ENFILE', 'ENOMEM', 'ENOBUFS', 'EADDRNOTAVAIL']) {
    assert.deepEqual(outcomeOf(withCode(code)), { verdict: 'inconclusive', error: `this node could not try: connect ${code}` });
  }
  assert.deepEqual(outcomeOf(withCode('EHOSTUNREACH')), failure('host unreachable'));
  assert.deepEqual(outcomeOf(withCode('EOTHER')), failure('connect EOTHER'));
  assert.deepEqual(outcomeOf(new Error('odd')), failure('odd'));
});
