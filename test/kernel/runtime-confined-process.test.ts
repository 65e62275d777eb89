/** A confined process in the agent's own network, as the ingress proxy is: sees its code and its socket, nothing else of ours. */
import { strict as assert } from 'node:assert';
import { readlinkSync } from 'node:fs';
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { Client, request } from 'undici';
import { isAlive, readConfinedExit, readConfinedLog, startConfinedProcess, stopConfinedProcess, type ConfinedProcessSpec } from '../../src/runtime/confined-process.ts';
import { signal, until } from '../runtime/process-fixture.ts';
import { enterNamespace } from './namespace.ts';

await enterNamespace();

const PROGRAM = `
import { createServer } from 'node:http';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
const [, , state, socket] = process.argv;
const facts = () => JSON.stringify({
  net: readlinkSync('/proc/self/ns/net'), state: readdirSync(state), secrets: Object.keys(process.env),
  caps: readFileSync('/proc/self/status', 'utf8').match(/^Cap.*$/gm).map((line) => line.split('\\t')[1]),
});
const serve = (where) => createServer((_, response) => response.end(facts())).listen(where);
serve(socket);
serve(18443);
console.log('serving');
`;

async function proxyLike(): Promise<ConfinedProcessSpec & { readonly socket: string; readonly state: string }> {
  const state = await mkdtemp('/run/state-');
  await mkdir(join(state, 'proxy/socket'), { recursive: true });
  await mkdir(join(state, 'code'));
  await writeFile(join(state, 'key'), 'secret');
  await writeFile(join(state, 'code/main.mjs'), PROGRAM);
  const socket = join(state, 'proxy/socket/control.sock');
  const expose = [{ path: join(state, 'proxy/socket'), access: 'write' }, { path: join(state, 'code'), access: 'read' }] as const;
  const command = [process.execPath, join(state, 'code/main.mjs'), state, socket];
  return { directory: join(state, 'proxy/process'), command, env: { ONLY: '1' }, hide: [state], expose, socket, state };
}

test('it serves on the agent\'s network and on its socket, sees nothing else of the state, and is started once', async () => {
  const spec = await proxyLike();
  const identity = await startConfinedProcess(spec, signal);
  await until(async () => ((await readConfinedLog(spec.directory, 1))[0] === 'serving' ? true : undefined), () => 'not serving');
  assert.deepEqual(await startConfinedProcess(spec, signal), identity);
  assert.equal(isAlive(identity), true);
  assert.equal(isAlive({ ...identity, startTime: identity.startTime + 1 }), false);
  const overTcp = await (await request('http://127.0.0.1:18443/')).body.text();
  const client = new Client('http://proxy', { socketPath: spec.socket });
  assert.equal(await (await client.request({ method: 'GET', path: '/' })).body.text(), overTcp);
  await client.destroy();
  const none = '0000000000000000';
  const expected = { net: readlinkSync('/proc/self/ns/net'), state: ['code', 'proxy'], secrets: ['PATH', 'HOME', 'ONLY', 'LANG'].toSorted(), caps: [none, none, none, none, none] };
  const found: { secrets: string[]; state: string[] } = JSON.parse(overTcp);
  assert.deepEqual({ ...found, secrets: found.secrets.filter((name) => name !== 'PWD').toSorted(), state: found.state.toSorted() }, expected);
  await stopConfinedProcess(spec.directory, { graceMs: 5000 }, signal);
  assert.equal(isAlive(identity), false);
  await assert.rejects(request('http://127.0.0.1:18443/'), { code: 'ECONNREFUSED' });
});

test('its end is noticed with its exit code and last words, and it can be started again', async () => {
  const spec = await proxyLike();
  await writeFile(join(spec.state, 'code/main.mjs'), 'console.error("port taken"); process.exit(3);');
  const identity = await startConfinedProcess(spec, signal);
  await until(() => (isAlive(identity) ? undefined : true));
  assert.equal(await readConfinedExit(spec.directory), 3);
  assert.deepEqual(await readConfinedLog(spec.directory, 5), ['port taken']);
  await writeFile(join(spec.state, 'code/main.mjs'), PROGRAM);
  const next = await startConfinedProcess(spec, signal);
  assert.ok(isAlive(next));
  await stopConfinedProcess(spec.directory, { graceMs: 5000 }, signal);
});

test('a relative directory is refused', async () => {
  await assert.rejects(startConfinedProcess({ ...(await proxyLike()), directory: 'here' }, signal), { code: 'INVALID_ARGUMENT', message: /here is no absolute/ });
});

test('a program that is not there is an error that names it', async () => {
  const spec = await proxyLike();
  await assert.rejects(startConfinedProcess({ ...spec, command: ['/nowhere/node'] }, signal), { code: 'PROCESS_FAILED', message: /\/nowhere\/node/ });
});
