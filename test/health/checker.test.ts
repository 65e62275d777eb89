/** The checker over real servers: thresholds in time, changes of the wanted set, bounded load, and a clean end. */
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type http from 'node:http';
import { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { resolve } from 'node:path';
import { test } from 'node:test';
import { run } from '../../src/drivers/exec.ts';
import { startHealthChecker, type HealthChecker, type HealthCheckerOptions, type HealthTarget } from '../../src/health/checker.ts';
import type { Port } from '../../src/model/address.ts';
import type { HealthCheck } from '../../src/model/health-check.ts';
import { closedPort, httpCheck, httpServer, LOOPBACK, rawServer, tcpCheck, tcpServer, until } from './servers.ts';

/** The second probe comes at a random moment of this time: in effect never. */
const NEVER_AGAIN_MS = 2 ** 31 - 1;

test('healthy, refusing and failing targets; nothing is known of others', async () => {
  await using good = await httpServer((_request, response) => response.end('ok'));
  await using bad = await httpServer((_request, response) => response.writeHead(503).end());
  const startedAt = Date.now();
  using watch = open();
  watch.checker.set([
    target('good', good.port, httpCheck('/')),
    target('tcp', good.port, tcpCheck()),
    target('bad', bad.port, httpCheck('/')),
    target('closed', await closedPort(), tcpCheck()),
  ]);
  assert.deepEqual([...watch.checker.results()], [], 'nothing is known before a probe has ended');
  await until(() => watch.changes.length === 4, 'each is known');
  const results = Object.fromEntries([...watch.checker.results()].map(([key, { healthy, lastError }]) => [key, { healthy, lastError }]));
  assert.deepEqual(results, {
    good: { healthy: true, lastError: undefined },
    tcp: { healthy: true, lastError: undefined },
    bad: { healthy: false, lastError: 'HTTP 503' },
    closed: { healthy: false, lastError: 'connection refused' },
  });
  for (const { since } of watch.checker.results().values()) assert.ok(since >= startedAt && since <= Date.now());
  assert.equal(watch.checker.healthy('another'), undefined);
});

test('flapping: only so many failures or successes in a row turn a target', async () => {
  const script = [500, 200, 200, 500, 500, 200, 500, 500, 500, 200, 500, 200, 200, 200];
  let asked = 0;
  const seen: (boolean | undefined)[] = [];
  await using server = await httpServer((_request, response) => {
    seen.push(watch.checker.healthy('web'));
    response.writeHead(script[asked] ?? 200).end();
    asked += 1;
  });
  using watch = open();
  watch.checker.set([target('web', server.port, httpCheck('/', { failures: 3, successes: 2 }))]);
  await until(() => asked > script.length, 'the script is played');
  assert.deepEqual(watch.changes, ['web false', 'web true', 'web false', 'web true']);
  // What is known when each probe begins is the outcome of those before it.
  const [u, f, t] = [undefined, false, true];
  assert.deepEqual(seen.slice(0, script.length + 1), [u, f, f, t, t, t, t, t, t, f, f, f, f, t, t]);
});

test('since is the time of the last turn, and an error is forgotten with the next success', async () => {
  let status = 200;
  let clock = 1000;
  await using server = await httpServer((_request, response) => response.writeHead(status).end());
  using watch = open({ now: () => clock });
  watch.checker.set([target('web', server.port, httpCheck('/', { failures: 2 }))]);
  await until(() => watch.checker.healthy('web') === true, 'healthy');
  clock = 2000;
  const accepted = server.accepted();
  await until(() => server.accepted() > accepted + 2, 'more probes');
  assert.deepEqual(watch.checker.results().get('web'), { healthy: true, since: 1000 });
  status = 500;
  await until(() => watch.checker.healthy('web') === false, 'unhealthy');
  assert.deepEqual(watch.checker.results().get('web'), { healthy: false, lastError: 'HTTP 500', since: 2000 });
  clock = 3000;
  status = 200;
  await until(() => watch.checker.healthy('web') === true, 'healthy again');
  assert.deepEqual(watch.checker.results().get('web'), { healthy: true, since: 3000 });
});

test('a target that stays is not disturbed, however often the set is told', async () => {
  await using server = await tcpServer();
  using watch = open();
  const wanted = () => [target('a', server.port, tcpCheck({ intervalMs: NEVER_AGAIN_MS })), target('b', server.port, tcpCheck({ intervalMs: NEVER_AGAIN_MS }))];
  for (let round = 0; round < 50; round++) {
    watch.checker.set(wanted());
    await sleep(1);
  }
  watch.checker.set([...wanted(), ...wanted()]);
  await until(() => watch.changes.length === 2, 'both are known');
  watch.checker.set([...wanted().toReversed(), target('c', server.port, tcpCheck({ intervalMs: NEVER_AGAIN_MS }))]);
  await until(() => watch.changes.length === 3, 'the new one is known');
  assert.equal(server.accepted(), 3);
});

test('another check: health is kept, what was counted is not, and the probe that runs is cut off', async () => {
  const asked: string[] = [];
  const answer: Readonly<Record<string, (response: http.ServerResponse) => unknown>> = {
    '/good': (response) => response.end(),
    '/bad': (response) => response.writeHead(500).end(),
    '/worse': (response) => response.writeHead(501).end(),
    '/hang': () => undefined,
  };
  await using server = await httpServer(({ url = '' }, response) => {
    asked.push(url);
    answer[url]?.(response);
  });
  using watch = open();
  const set = (path: string, failures: number, intervalMs = NEVER_AGAIN_MS) => watch.checker.set([target('web', server.port, httpCheck(path, { failures, intervalMs }))]);
  set('/good', 2);
  await until(() => watch.checker.healthy('web') === true, 'healthy');
  set('/bad', 2);
  await until(() => watch.checker.results().get('web')?.lastError === 'HTTP 500', 'the new check is made at once');
  set('/hang', 2);
  await until(() => asked.at(-1) === '/hang', 'the check hangs');
  set('/worse', 2);
  await until(() => watch.checker.results().get('web')?.lastError === 'HTTP 501', 'the failure is seen');
  await until(() => server.open() === 0, 'the hanging probe is cut off');
  assert.equal(watch.checker.healthy('web'), true, 'one failure of each check is no two in a row');
  set('/worse', 2, 20);
  await until(() => watch.checker.healthy('web') === false, 'two failures of one check');
  assert.deepEqual(watch.changes, ['web true', 'web false']);
});

test('another address under the same key is a new target', async () => {
  await using first = await tcpServer();
  await using second = await httpServer(() => undefined);
  using watch = open();
  watch.checker.set([target('web', first.port, tcpCheck())]);
  await until(() => watch.checker.healthy('web') === true, 'healthy');
  watch.checker.set([target('web', second.port, httpCheck('/'))]);
  assert.equal(watch.checker.healthy('web'), undefined);
  await until(() => second.open() === 1, 'the new address is probed');
});

test('removal in the middle of a probe closes its connection, and nothing is told any more', async () => {
  await using server = await rawServer('HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n');
  using watch = open();
  watch.checker.set([target('web', server.port, httpCheck('/'))]);
  await until(() => server.open() === 1, 'the probe runs');
  watch.checker.set([]);
  await until(() => server.open() === 0, 'the connection closes');
  assert.equal(watch.checker.healthy('web'), undefined);
  assert.deepEqual(watch.changes, []);
  assert.equal(watch.checker.results().size, 0);
});

test('removal in the very turn in which the probe ends: nothing is told either', async () => {
  await using server = await tcpServer();
  using watch = open();
  let removed = false;
  const remove = (message: unknown): void => {
    const socket = typeof message === 'object' && message !== null && 'socket' in message ? message.socket : undefined;
    assert.ok(socket instanceof Socket);
    // Next ticks come before the promises that the same event has settled.
    socket.once('connect', () =>
      process.nextTick(() => {
        removed = true;
        watch.checker.set([]);
      }),
    );
  };
  subscribe('net.client.socket', remove);
  watch.checker.set([target('web', server.port, tcpCheck())]);
  await until(() => removed && server.open() === 0, 'the target is removed');
  unsubscribe('net.client.socket', remove);
  await sleep(20);
  assert.deepEqual([watch.changes, server.accepted()], [[], 1]);
});

test('removal by the one who is told of a change', async () => {
  await using server = await tcpServer();
  const told: string[] = [];
  const checker = startHealthChecker({
    onChange: (key) => {
      told.push(key);
      checker.set([target('b', server.port, tcpCheck({ intervalMs: NEVER_AGAIN_MS }))]);
    },
  });
  checker.set([target('a', server.port, tcpCheck())]);
  await until(() => checker.healthy('b') === true, 'the second is known');
  await sleep(50);
  assert.deepEqual([told, server.accepted()], [['a', 'b'], 2]);
  checker.close();
});

test('what was known before stands until the thresholds turn it', async () => {
  await using server = await httpServer((_request, response) => response.writeHead(500).end());
  using watch = open();
  watch.checker.set([{ ...target('was healthy', server.port, httpCheck('/', { failures: 3 })), lastKnown: true }]);
  assert.equal(watch.checker.healthy('was healthy'), true);
  await until(() => watch.changes.length === 1, 'it turns');
  assert.deepEqual(watch.changes, ['was healthy false']);
  assert.ok(server.accepted() >= 3);
});

test('2,000 targets: never more probes at once than allowed, and each gets its turn', async () => {
  const held: http.ServerResponse[] = [];
  let hold = true;
  let most = 0;
  await using server = await httpServer((_request, response) => {
    most = Math.max(most, server.open());
    if (hold) held.push(response);
    else response.end();
  });
  using watch = open({ maxInFlight: 16 });
  watch.checker.set(Array.from({ length: 2000 }, (_, index) => target(`t${index}`, server.port, httpCheck('/', { timeoutMs: 600_000, intervalMs: NEVER_AGAIN_MS }))));
  await until(() => held.length === 16, 'as many as allowed are asked');
  await sleep(100);
  assert.equal(server.accepted(), 16);
  held.pop()?.end();
  await until(() => held.length === 16, 'one more');
  await sleep(50);
  assert.equal(server.accepted(), 17);
  hold = false;
  for (const response of held) response.end();
  await until(() => watch.changes.length === 2000, 'all are known');
  assert.ok([...watch.checker.results().values()].every(({ healthy }) => healthy));
  // A server hears of a closed connection a little later than of the next one that is opened.
  assert.ok(most <= 32, `${most} connections at once`);
});

test('dead targets that hang do not keep the living from being probed', async () => {
  await using hanging = await httpServer(() => undefined);
  await using good = await tcpServer();
  using watch = open({ maxInFlight: 4 });
  const dead = Array.from({ length: 50 }, (_, index) => ({ ...target(`dead${index}`, hanging.port, httpCheck('/', { timeoutMs: 600_000 })), lastKnown: false }));
  watch.checker.set([...dead, target('alive', good.port, tcpCheck())]);
  await until(() => good.accepted() > 10, 'the living one is probed again and again');
  assert.equal(hanging.accepted(), 2);
});

test('after close nothing runs, nothing is told and the process ends by itself', async () => {
  await using hanging = await httpServer(() => undefined);
  const module = (path: string): string => JSON.stringify(pathToFileURL(resolve(import.meta.dirname, '../..', path)).href);
  const program = `
    import { startHealthChecker } from ${module('src/health/checker.ts')};
    const checker = startHealthChecker({ onChange: (key) => { if (closed) throw new Error(key); seen += 1; }, maxInFlight: 8 });
    let closed = false;
    let seen = 0;
    const timing = { intervalMs: 50, timeoutMs: 600_000, failures: 1, successes: 1 };
    const target = (key, check) => ({ key, ip: '127.0.0.1', port: ${hanging.port}, check: { ...timing, ...check } });
    const hang = Array.from({ length: 20 }, (_, index) => target('hang' + index, { type: 'http', path: '/' }));
    const wait = Array.from({ length: 20 }, (_, index) => target('wait' + index, { type: 'tcp', intervalMs: 3_600_000 }));
    checker.set([...wait, ...hang]);
    while (seen < 20) await new Promise((resolve) => setTimeout(resolve, 5));
    checker.close();
    closed = true;
    checker.set(hang);
    console.log(JSON.stringify([checker.results().size, checker.healthy('wait0') ?? null]));
  `;
  const { stdout, stderr } = await run([process.execPath, '--input-type=module', '--eval', program], { timeoutMs: 60_000 });
  assert.deepEqual([JSON.parse(stdout), stderr], [[0, null], '']);
});

interface Watch extends Disposable {
  readonly checker: HealthChecker;
  /** `key healthy` for every change that was told. */
  readonly changes: string[];
}

function open(options: Omit<HealthCheckerOptions, 'onChange'> = {}): Watch {
  const changes: string[] = [];
  const checker = startHealthChecker({ ...options, onChange: (key) => changes.push(`${key} ${checker.healthy(key)}`) });
  return { checker, changes, [Symbol.dispose]: () => checker.close() };
}

function target(key: string, port: Port, check: HealthCheck): HealthTarget {
  return { key, ip: LOOPBACK, port, check };
}
