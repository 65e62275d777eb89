/** The agent that `clawnode mcp` is told to speak for, where that says nothing or is another version. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test, type TestContext } from 'node:test';
import { version } from '../../src/version.ts';
import { clawnode } from './cli-process.ts';
import { fakeAgent } from './fake-agent.ts';

const folder = await mkdtemp(join(tmpdir(), 'claw-mcp-agent-'));
after(() => rm(folder, { recursive: true, force: true }));

async function listen(t: TestContext, server: Server, name: string): Promise<{ env: { CLAWNODE_SOCKET: string } }> {
  const socket = join(folder, name);
  server.listen(socket);
  t.after(() => server.close());
  await once(server, 'listening');
  return { env: { CLAWNODE_SOCKET: socket } };
}

test('one that takes the connection and says nothing is told after a while', { timeout: 60_000 }, async (t) => {
  const at = await listen(t, createServer((socket) => void socket.on('error', () => undefined).resume()), 'silent.sock');
  const { exitCode, stderr } = await clawnode(['mcp', '--mode', 'host'], at);
  assert.equal(exitCode, 1, stderr);
  assert.match(stderr, /does not answer within 5000 ms \(TIMEOUT/);
  assert.match(stderr, /clawnode doctor/);
});

test('one of another version is served, and that is said', async (t) => {
  const at = await listen(t, fakeAgent(), 'other.sock');
  const { exitCode, stderr } = await clawnode(['mcp', '--mode', 'host'], at);
  assert.equal(exitCode, 0, stderr);
  assert.match(stderr, new RegExp(`the agent is of version 0\\.0\\.0, this program of ${version()}: `));
});
