/** The client of the agent's socket: answers, errors and everything that can go wrong on the way. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ClawError } from '../../src/errors.ts';
import { agentSocketPath, connectAgent, connectUsualAgent, restoreError } from '../../src/surfaces/agent-client.ts';
import { fakeAgent } from './fake-agent.ts';

const directory = await mkdtemp(join(tmpdir(), 'claw-client-'));
const socketPath = join(directory, 'agent.sock');
const server = fakeAgent();
const never = new AbortController().signal;

before(async () => {
  server.listen(socketPath);
  await once(server, 'listening');
});
after(async () => {
  server.closeAllConnections();
  server.close();
  await rm(directory, { recursive: true });
});

test('an answer arrives as it was given', async () => {
  const params = { name: 'wéb', ports: [{ port: 80 }], text: 'x'.repeat(200_000) };
  assert.deepEqual(await connectAgent(socketPath).invoke('echo', params, never), params);
});

test('arguments that are nested deeper than can be written are an error of the arguments and no defect', async () => {
  const params: unknown = JSON.parse(`${'['.repeat(200_000)}${']'.repeat(200_000)}`);
  await assert.rejects(connectAgent(socketPath).invoke('echo', { params }, never), { code: 'INVALID_ARGUMENT', message: /nested too deep/ });
});

test("the agent's error is thrown with all its fields", async () => {
  await assert.rejects(connectAgent(socketPath).invoke('fail', {}, never), (error) => {
    assert.ok(error instanceof ClawError);
    assert.deepEqual(error.toJSON(), { code: 'SERVICE_NOT_FOUND', message: 'no web', path: 'name', hint: 'look' });
    return true;
  });
});

test('health is parsed', async () => {
  assert.deepEqual(await connectAgent(socketPath).health(never), { node: 'n1', mode: 'host', version: '0.0.0', pid: process.pid, ready: true });
});

test('no agent, a file that is no socket and a broken connection are AGENT_UNREACHABLE with a hint', async () => {
  const file = join(directory, 'file');
  await writeFile(file, '');
  for (const [path, command] of [[join(directory, 'none'), 'echo'], [file, 'echo'], [socketPath, 'drop']] as const) {
    await assert.rejects(connectAgent(path).invoke(command, {}, never), (error) => {
      assert.ok(error instanceof ClawError);
      assert.equal(error.code, 'AGENT_UNREACHABLE');
      assert.match(error.message, /agent/);
      assert.notEqual(error.hint, undefined);
      return true;
    });
  }
});

test('what is wrong with a socket is said in words, not as the name of a system error', async () => {
  const none = join(directory, 'none');
  await assert.rejects(connectAgent(none).health(never), { message: `no agent runs here: there is no socket ${none}`, hint: /^Start one with .*clawnode sandbox/ });
  const dead = join(directory, 'dead.sock');
  await writeFile(dead, '');
  await assert.rejects(connectAgent(dead).health(never), { message: `no agent answers on ${dead}`, hint: /^It may be restarting: try again in a few seconds\. Start one/ });
  await assert.rejects(connectAgent(none, { restartWaitMs: 60 }).health(never), { message: `no agent answers on ${none}, which does not exist`, hint: /may be restarting/ });
});

test('an agent that is restarting is waited for, and gets the call once', async () => {
  const path = join(directory, 'restarting.sock');
  const agent = fakeAgent();
  let calls = 0;
  agent.on('request', () => (calls += 1));
  const answer = connectAgent(path, { restartWaitMs: 10_000 }).invoke('echo', { name: 'web' }, never);
  setTimeout(() => agent.listen(path), 200);
  assert.deepEqual(await answer, { name: 'web' });
  assert.equal(calls, 1);
  agent.closeAllConnections();
  agent.close();
});

test('a call that was sent is not sent again, however long an agent may be waited for', async () => {
  const path = join(directory, 'breaking.sock');
  let connections = 0;
  const breaking = createServer((socket) => {
    connections += 1;
    socket.once('data', () => socket.destroy());
  }).listen(path);
  await once(breaking, 'listening');
  await assert.rejects(connectAgent(path, { restartWaitMs: 10_000 }).invoke('echo', {}, never), { code: 'AGENT_UNREACHABLE', hint: /look before you repeat it/ });
  assert.equal(connections, 1);
  breaking.close();
});

test('waiting for an agent ends at once when the call is cancelled', async () => {
  const cancel = new AbortController();
  const call = connectAgent(join(directory, 'none'), { restartWaitMs: 600_000 }).health(cancel.signal);
  setTimeout(() => cancel.abort(), 120);
  await assert.rejects(call, { code: 'CANCELLED' });
});

test('the usual agent is waited for when CLAWNODE_SOCKET names it', async (t) => {
  const named = process.env['CLAWNODE_SOCKET'];
  t.after(() => {
    if (named === undefined) delete process.env['CLAWNODE_SOCKET'];
    else process.env['CLAWNODE_SOCKET'] = named;
  });
  const path = join(directory, 'named.sock');
  process.env['CLAWNODE_SOCKET'] = path;
  const agent = fakeAgent();
  const health = connectUsualAgent().health(never);
  setTimeout(() => agent.listen(path), 200);
  assert.equal((await health).node, 'n1');
  agent.closeAllConnections();
  agent.close();
});

test('a cancelled call is CANCELLED', async () => {
  const cancel = new AbortController();
  const call = connectAgent(socketPath).invoke('hang', {}, cancel.signal);
  cancel.abort();
  await assert.rejects(call, { code: 'CANCELLED' });
});

test('an answer that is not JSON is INTERNAL, not a crash', async () => {
  await assert.rejects(connectAgent(socketPath).invoke('garbage', {}, never), { code: 'INTERNAL' });
});

test('only an error of a known code is restored', () => {
  assert.equal(restoreError('{"code":"TIMEOUT","message":"late"}')?.code, 'TIMEOUT');
  assert.equal(restoreError('{"code":"NO_SUCH","message":"late"}'), undefined);
  assert.equal(restoreError('not json'), undefined);
});

test('CLAWNODE_SOCKET names the socket; an empty one does not', () => {
  assert.equal(agentSocketPath({ CLAWNODE_SOCKET: '/x/y.sock' }), '/x/y.sock');
  assert.equal(agentSocketPath({ CLAWNODE_SOCKET: '' }), '/run/clawnode/agent.sock');
});
