/** The process itself: how it starts, refuses to start, survives its surroundings and stops. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { lstat, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { start } from '../../src/drivers/exec.ts';
import { addressOf, dial, eventually, exchange, fetchText, rawRequest, rule, spawnProxy, startBackend, startProxy, statusOf, type Backend } from './harness.ts';

const errorLine = z.looseObject({ code: z.string(), message: z.string() });

let directory: string;
let backend: Backend;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'claw-proxy-'));
  backend = await startBackend((request, response) => {
    response.write('begin ');
    if (request.url !== '/never') setTimeout(() => response.end('end'), Number(request.url?.slice(1) ?? 0));
  });
});

after(async () => {
  await backend.close();
  await rm(directory, { recursive: true });
});

function configuration(port: number, controlSocket = join(directory, 'c.sock')): string {
  return JSON.stringify({ controlSocket, listen: [{ host: '127.0.0.1', port }], forbiddenRanges: [] });
}

async function failure(config: string): Promise<{ exitCode: number | null; error: z.infer<typeof errorLine> }> {
  const child = spawnProxy(config);
  const exitCode = await child.exited;
  const last = child.stderr().trim().split('\n').at(-1) ?? '';
  return { exitCode, error: errorLine.parse(JSON.parse(last)) };
}

test('a port in use: exit 3 and one JSON line that names it', async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const { port } = addressOf(taken);
  const { exitCode, error } = await failure(configuration(port));
  assert.equal(exitCode, 3);
  assert.equal(error.code, 'CONFLICT');
  assert.match(error.message, new RegExp(`127\\.0\\.0\\.1:${port}`));
  await assert.rejects(lstat(join(directory, 'c.sock')), /ENOENT/);
  taken.close();
});

test('a bad configuration: exit 2', async () => {
  for (const config of ['', 'nonsense', '{}', JSON.stringify({ controlSocket: `/${'x'.repeat(107)}`, listen: [{ host: '127.0.0.1', port: 0 }], forbiddenRanges: [] })]) {
    const { exitCode, error } = await failure(config);
    assert.deepEqual([exitCode, error.code], [2, 'CONFIG_INVALID'], config);
  }
});

test('a control socket that is answered is left alone, a stale one replaced, a file never', async () => {
  const first = await startProxy();
  const refused = await failure(configuration(0, first.controlSocket));
  assert.deepEqual([refused.exitCode, refused.error.code], [3, 'CONFLICT']);
  assert.equal((await first.health()).draining, false);
  first.signal('SIGKILL');
  await first.exited;
  assert.ok((await lstat(first.controlSocket)).isSocket(), 'a killed process leaves its socket');
  const second = spawnProxy(configuration(0, first.controlSocket));
  await eventually(async () => (statusOf(await exchange(first.controlSocket, rawRequest('x', 'GET /v1/health HTTP/1.1'))) === 200 ? true : undefined));
  second.signal('SIGTERM');
  assert.equal(await second.exited, 0);
  await assert.rejects(lstat(first.controlSocket), /ENOENT/);
  await first.stop();
  const file = join(directory, 'file');
  await writeFile(file, 'precious');
  assert.equal((await failure(configuration(0, file))).exitCode, 3);
  assert.ok((await lstat(file)).isFile());
});

test('its sockets are for its own user alone', async () => {
  const proxy = await startProxy({ listenPath: true });
  for (const name of ['control.sock', 'http.sock']) assert.equal((await lstat(join(proxy.directory, name))).mode & 0o777, 0o600);
  await proxy.stop();
});

for (const how of ['SIGTERM', 'POST /v1/drain']) {
  test(`${how}: running requests end, new connections are refused, exit 0`, async () => {
    const proxy = await startProxy();
    await proxy.setRoutes(rule('a.test', [backend.target]));
    // A kept-alive connection with a request under way, an idle one, and one that has never spoken.
    const running = exchange(proxy.port, 'GET /500 HTTP/1.1\r\nHost: a.test\r\n\r\n');
    const idle = exchange(proxy.port, 'GET /0 HTTP/1.1\r\nHost: a.test\r\n\r\n');
    const silent = dial(proxy.port);
    await eventually(async () => ((await proxy.health()).active === 1 ? true : undefined));
    const startedAt = performance.now();
    if (how === 'SIGTERM') proxy.signal('SIGTERM');
    else assert.equal((await proxy.control('POST', '/v1/drain')).status, 200);
    assert.match(await running, /begin [^]*end/);
    assert.match(await idle, /begin [^]*end/);
    assert.equal(await proxy.exited, 0);
    assert.ok(performance.now() - startedAt < 10_000, 'well before the deadline of 30 s');
    assert.equal(await exchange(proxy.port, rawRequest('a.test')), '');
    silent.destroy();
    await proxy.stop();
  });
}

test('a request that never ends does not hold the drain', async () => {
  const proxy = await startProxy({ limits: { drainTimeoutMs: 300 } });
  await proxy.setRoutes(rule('a.test', [backend.target]));
  const running = exchange(proxy.port, 'GET /never HTTP/1.1\r\nHost: a.test\r\n\r\n');
  await eventually(async () => ((await proxy.health()).active === 1 ? true : undefined));
  proxy.signal('SIGTERM');
  assert.equal(await proxy.exited, 0);
  assert.match(await running, /begin/);
  await proxy.stop();
});

test('it serves on when its log reader is gone and its terminal closes', async () => {
  const proxy = await startProxy();
  await proxy.setRoutes(rule('a.test', [backend.target]));
  proxy.closeStderr();
  proxy.signal('SIGHUP');
  await sleep(50);
  assert.equal((await fetchText(proxy.port, { host: 'a.test', path: '/0' })).status, 200);
  // Draining writes to the log.
  proxy.signal('SIGTERM');
  assert.equal(await proxy.exited, 0);
  await proxy.stop();
});

test('it serves on when the process that started it is killed', async () => {
  const config = configuration(0, join(directory, 'orphan.sock'));
  const main = new URL('../../src/proxy/main.ts', import.meta.url).pathname;
  const script = `require('node:child_process').spawn(process.execPath, [${JSON.stringify(main)}, ${JSON.stringify(config)}], { detached: true, stdio: 'ignore' }); setInterval(() => 0, 1000)`;
  const parent = start([process.execPath, '-e', script], { stdio: 'ignore' });
  const health = (): Promise<string> => exchange(join(directory, 'orphan.sock'), rawRequest('x', 'GET /v1/health HTTP/1.1'));
  await eventually(async () => (statusOf(await health()) === 200 ? true : undefined));
  parent.kill('SIGKILL');
  await once(parent, 'exit');
  await sleep(50);
  const text = await health();
  assert.equal(statusOf(text), 200);
  const { pid } = z.looseObject({ pid: z.int() }).parse(JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4)));
  process.kill(pid, 'SIGTERM');
  await eventually(async () => ((await lstat(join(directory, 'orphan.sock')).catch(() => undefined)) === undefined ? true : undefined));
});
