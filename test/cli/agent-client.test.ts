/** The client of the agent's socket: answers, errors and everything that can go wrong on the way. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ClawError } from '../../src/errors.ts';
import { agentSocketPath, connectAgent, restoreError } from '../../src/surfaces/agent-client.ts';
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
