/** How changes are followed and told on the agent's socket: what the agent refuses is told as it is, one that is restarting is waited for, and who does not read holds up nothing. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { ClawError } from '../../src/errors.ts';
import type { Change } from '../../src/observed/changes.ts';
import { followChanges, type FollowChanges } from '../../src/surfaces/agent-changes.ts';
import { openAgentSocket, type AgentSocketOptions } from '../../src/surfaces/agent-socket.ts';

const directory = await mkdtemp(join(tmpdir(), 'claw-changes-'));
after(() => rm(directory, { recursive: true }));

async function agent(t: TestContext, path: string, options: Partial<AgentSocketOptions>): Promise<{ close: () => Promise<void> }> {
  const changes: FollowChanges = async function* () {
    yield { revision: 1 };
  };
  const socket = await openAgentSocket({
    path,
    gid: undefined,
    health: () => ({}),
    invoke: async () => ({}),
    changes,
    admit: () => () => undefined,
    onRefused: () => undefined,
    peerOf: async () => 'test',
    ...options,
  });
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => (closing ??= socket.close());
  t.after(close);
  return { close };
}

async function first(path: string): Promise<Change> {
  const stop = new AbortController();
  try {
    for await (const change of followChanges(path, stop.signal)) return change;
  } finally {
    stop.abort();
  }
  return assert.fail('it ended');
}

test('a refusal of the agent is told with its own code and hint', async (t) => {
  const path = join(directory, 'full.sock');
  await agent(t, path, {
    admit: () => {
      throw new ClawError('LIMIT_EXCEEDED', 'there are 500 listeners at once', { hint: 'Try again in a second.' });
    },
  });
  await assert.rejects(first(path), { code: 'LIMIT_EXCEEDED', hint: 'Try again in a second.' });
});

test('an agent that is being restarted is waited for; where none comes, that is told', async (t) => {
  const path = join(directory, 'late.sock');
  const change = first(path);
  change.catch(() => undefined);
  await delay(300);
  await agent(t, path, {});
  assert.deepEqual(await change, { revision: 1 });
  await assert.rejects(first(join(directory, 'none.sock')), { code: 'AGENT_UNREACHABLE' });
});

test('one who listens and does not read does not hold up the end of the agent', { timeout: 30_000 }, async (t) => {
  const path = join(directory, 'stalled.sock');
  let told = 0;
  const { close } = await agent(t, path, {
    changes: async function* (signal) {
      for (; !signal.aborted; told += 1) yield { revision: 1, keys: Array.from({ length: 1_000 }, (_, index) => `services/default/web-${index}`) };
    },
  });
  const client = createConnection(path);
  t.after(() => client.destroy());
  client.on('error', () => undefined);
  await once(client, 'connect');
  client.write('GET /v1/changes HTTP/1.1\r\nHost: x\r\n\r\n');
  client.pause();
  for (let seen = -1; told === 0 || seen !== told; await delay(100)) seen = told;
  const startedAt = performance.now();
  await close();
  assert.ok(performance.now() - startedAt < 5_000, 'it waited for the one who does not read');
});
