/** A proxy on a socket that somebody else holds: it listens only with routes, and what starts it again when it dies. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { start } from '../../src/drivers/exec.ts';
import { closeHolder, FIRST_SOCKET_FD, openHolder, readHolder, renewHolder, startThrough } from '../../src/runtime/socket-holder.ts';
import { eventually, exchange, fetchText, rawRequest, rule, startBackend, statusOf, type Backend } from './harness.ts';

const MAIN = new URL('../../src/proxy/main.ts', import.meta.url).pathname;
const RESPAWN = new URL('../../src/runtime/respawn.sh', import.meta.url).pathname;
const { signal } = new AbortController();
let directory: string;
let backend: Backend;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'claw-proxy-'));
  backend = await startBackend((_request, response) => response.end('served'));
});
after(async () => {
  await backend.close();
  // What a failed test has left would hold its port for ever.
  for (const name of ['holder', 'one', 'two', 'third', 'second']) await closeHolder(join(directory, name), signal);
  await rm(directory, { recursive: true });
});

test('a holder accepts nothing: connections wait until somebody serves, and the sockets outlive every other process', async () => {
  const port = await freePort();
  const [holding, path, control, routesFile] = ['holder', 'published.sock', 'control.sock', 'routes.json'].map((name) => join(directory, name));
  assert.ok(holding !== undefined && path !== undefined && control !== undefined && routesFile !== undefined);
  const holder = await openHolder(holding, [{ host: '127.0.0.1', port }, { path }], signal);
  await assert.rejects(openHolder(join(directory, 'second'), [{ host: '127.0.0.1', port }], signal), { code: 'CONFLICT', message: `127.0.0.1:${port} is in use by another process` });
  const waiting = [fetchText(port, { host: 'a.test' }).then(({ body }) => body), exchange(path, rawRequest('a.test'))];
  await sleep(100);
  const listen = [{ fd: FIRST_SOCKET_FD, name: 'tcp' }, { fd: FIRST_SOCKET_FD + 1, name: path }];
  const config = JSON.stringify({ controlSocket: control, listen, routesFile, forbiddenRanges: [], dialLoopback: true });
  await startThrough(holder, [process.execPath, MAIN, config], signal);
  const health = async (): Promise<Health> => read(await exchange(control, rawRequest('x', 'GET /v1/health HTTP/1.1')));
  const first = await eventually(health);
  assert.deepEqual([first.version, first.listening], [null, []], 'without routes it does not listen');
  await writeFile(routesFile, JSON.stringify({ version: 7, routes: [rule('a.test', [backend.target])] }));
  process.kill(first.pid, 'SIGKILL');
  await startThrough(holder, [process.execPath, MAIN, config], signal);
  const [overTcp, overPath] = await Promise.all(waiting);
  assert.equal(overTcp, 'served');
  assert.match(overPath ?? '', /served/);
  const second = await eventually(async () => (await health().then((found) => (found.pid === first.pid ? undefined : found))));
  assert.deepEqual([second.version, second.listening], [7, ['tcp', path]]);
  await closeHolder(holding, signal);
  assert.equal(await readHolder(holding), undefined);
  assert.equal((await fetchText(port, { host: 'a.test' })).body, 'served');
  process.kill(second.pid, 'SIGTERM');
  await eventually(() => fetchText(port, { host: 'a.test' }).then(() => undefined, (error: unknown) => (/ECONNREFUSED/.test(String(error)) ? true : undefined)));
});

test('a holder that was killed is made again from one that lives, with the same sockets', async () => {
  const port = await freePort();
  const [one, two] = [join(directory, 'one'), join(directory, 'two')];
  const first = await openHolder(one, [{ host: '127.0.0.1', port }], signal);
  const next = await renewHolder(two, first, signal);
  assert.notEqual(next.process.pid, first.process.pid);
  process.kill(first.process.pid, 'SIGKILL');
  // The second is all that keeps the port.
  await assert.rejects(openHolder(join(directory, 'third'), [{ host: '127.0.0.1', port }], signal), { code: 'CONFLICT' });
  await assert.rejects(startThrough(first, ['true'], signal), { code: 'PROCESS_FAILED' });
  await closeHolder(one, signal);
  await closeHolder(two, signal);
  await openHolder(one, [{ host: '127.0.0.1', port }], signal);
  await closeHolder(one, signal);
});

test('a program is run again when it was killed, but not after its own end, an early error or TERM', async () => {
  const respawn = (script: string): { ended: Promise<number | null>; kill: () => void } => {
    const child = start(['/bin/sh', RESPAWN, '/bin/sh', '-c', script], { stdio: 'ignore' });
    return { ended: once(child, 'close').then(([code]) => (typeof code === 'number' ? code : null)), kill: () => void child.kill('SIGTERM') };
  };
  const runs = join(directory, 'runs');
  const count = async (): Promise<number> => (await readFile(runs, 'utf8')).length;
  await writeFile(runs, '');
  assert.equal(await respawn(`printf . >>${runs}; exit 3`).ended, 3);
  assert.equal(await respawn(`printf . >>${runs}; exit 0`).ended, 0);
  assert.equal(await count(), 2);
  // Killed twice, then it ends.
  assert.equal(await respawn(`printf . >>${runs}; [ "$(wc -c <${runs})" -ge 5 ] || kill -s KILL $$; exit 4`).ended, 4);
  assert.equal(await count(), 5);
  const waiting = respawn(`printf . >>${runs}; exec sleep 60`);
  await eventually(async () => ((await count()) === 6 ? true : undefined));
  waiting.kill();
  assert.equal(await waiting.ended, 143);
  assert.equal(await count(), 6);
});

interface Health {
  readonly pid: number;
  readonly version: number | null;
  readonly listening: readonly string[];
}

function read(answer: string): Health {
  assert.equal(statusOf(answer), 200);
  const parsed: Health = JSON.parse(answer.slice(answer.indexOf('\r\n\r\n')));
  return parsed;
}

async function freePort(): Promise<number> {
  const held = await startBackend(() => undefined);
  const { port } = held.target;
  await held.close();
  return port;
}
