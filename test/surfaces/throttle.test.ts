/** What is refused when calls come too many at once or too fast, and that it ends by itself. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, test } from 'node:test';
import { ClawError } from '../../src/errors.ts';
import { connectAgent } from '../../src/surfaces/agent-client.ts';
import { openAgentSocket, type Refusal } from '../../src/surfaces/agent-socket.ts';
import { createThrottle } from '../../src/throttle.ts';

const directory = await mkdtemp(join(tmpdir(), 'claw-throttle-'));
after(() => rm(directory, { recursive: true }));
const signal = new AbortController().signal;
const tooMany = { code: 'LIMIT_EXCEEDED' } as const;

test('so many calls at once and no more, until one has ended; it ends once', () => {
  const throttle = createThrottle({ concurrentCalls: 2, changesPerSecond: 1 });
  const leave = throttle.enter('call');
  throttle.enter('call');
  assert.throws(() => throttle.enter('call'), { ...tooMany, message: 'there are 2 calls at once, and limits.concurrentCalls is 2' });
  throttle.enter('listener');
  leave();
  leave();
  throttle.enter('call');
  assert.throws(() => throttle.enter('call'), tooMany);
});

test('changes: a burst, then as many as come in with time, and never more than a burst after a pause', () => {
  let nowMs = 0;
  const throttle = createThrottle({ concurrentCalls: 1, changesPerSecond: 10 }, () => nowMs);
  const most = (): number => {
    for (let count = 0; ; count += 1) {
      try {
        throttle.change();
      } catch (error) {
        assert.ok(error instanceof ClawError && error.code === 'LIMIT_EXCEEDED' && /try again/.test(error.hint ?? ''));
        return count;
      }
    }
  };
  assert.equal(most(), 50);
  nowMs += 1000;
  assert.equal(most(), 10);
  nowMs += 3_600_000;
  assert.equal(most(), 50);
});

test('the socket refuses one call too many before it is read, tells it, answers health meanwhile, and takes the next one', async () => {
  const path = join(directory, 'agent.sock');
  const throttle = createThrottle({ concurrentCalls: 3, changesPerSecond: 1 });
  const refused: Refusal[] = [];
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  const socket = await openAgentSocket({
    path,
    gid: undefined,
    peerOf: async () => 'uid 7 test[1]',
    health: () => ({ node: 'n1', mode: 'host', version: '1.0.0', pid: 1, ready: true }),
    admit: (what) => throttle.enter(what),
    changes: noChanges,
    onRefused: (refusal) => refused.push(refusal),
    invoke: async ({ command }) => {
      await held;
      if (command === 'fail') throw new ClawError('SERVICE_NOT_FOUND', 'no');
      return { command };
    },
  });
  const agent = connectAgent(path, { surface: 'cli' });
  // A caller that never sends its call counts as well.
  const silent = createConnection(path);
  silent.write('POST /v1/invoke HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n');
  const running = [agent.invoke('a', {}, signal), agent.invoke('fail', {}, signal).catch((error: ClawError) => error.code)];
  let error: unknown;
  for (const giveUpAt = performance.now() + 10_000; error === undefined && performance.now() < giveUpAt; ) {
    const abort = AbortSignal.any([signal, AbortSignal.timeout(50)]);
    const failure = await agent.invoke('b', {}, abort).catch((thrown: unknown) => thrown);
    if (failure instanceof ClawError && failure.code !== 'CANCELLED') error = failure;
  }
  assert.ok(error instanceof ClawError && error.code === 'LIMIT_EXCEEDED', String(error));
  const seen = refused.filter(({ error: { code } }) => code === 'LIMIT_EXCEEDED');
  assert.equal(seen.length > 0, true);
  assert.equal(seen[0]?.surface, 'cli');
  assert.equal(await seen[0]?.peer, 'uid 7 test[1]');
  assert.equal((await agent.health(signal)).node, 'n1');
  release();
  silent.destroy();
  assert.deepEqual(await Promise.all(running), [{ command: 'a' }, 'SERVICE_NOT_FOUND']);
  assert.deepEqual(await agent.invoke('c', {}, signal), { command: 'c' });

  // What is no call is told as well; what a call itself refuses is not told twice.
  refused.length = 0;
  for (const [method, url, body] of [['POST', '/v1/invoke', 'x'], ['POST', '/v1/invoke', '{}'], ['POST', '/other', '{}']] as const) await send(path, { method, url, body });
  await agent.invoke('fail', {}, signal).catch(() => undefined);
  assert.deepEqual(refused.map(({ error: { code } }) => code), ['INVALID_ARGUMENT', 'INVALID_ARGUMENT', 'UNKNOWN_COMMAND']);
  await socket.close();
});

test('a burst of a thousand callers is refused in words, and none finds the door shut', async () => {
  const path = join(directory, 'burst.sock');
  let refused = 0;
  let release = (): void => undefined;
  const held = new Promise<string>((resolve) => (release = () => resolve('done')));
  const throttle = createThrottle({ concurrentCalls: 3, changesPerSecond: 1 });
  const socket = await openAgentSocket({
    path,
    gid: undefined,
    peerOf: async () => 'unknown',
    health: () => ({ node: 'n1', mode: 'host', version: '1.0.0', pid: 1, ready: true }),
    admit: (what) => throttle.enter(what),
    changes: noChanges,
    onRefused: () => void ((refused += 1) === 997 && release()),
    invoke: async () => await held,
  });
  try {
    const until = AbortSignal.timeout(10_000);
    const answers = await Promise.all(Array.from({ length: 1000 }, () => connectAgent(path).invoke('a', {}, until).catch((error: ClawError) => error.code)));
    assert.deepEqual(Map.groupBy(answers, String).get('LIMIT_EXCEEDED')?.length, 997, JSON.stringify([...new Set(answers)]));
  } finally {
    release();
    await socket.close();
  }
});

async function* noChanges(): AsyncGenerator<never> {}

function send(socketPath: string, { method, url, body }: { method: string; url: string; body: string }): Promise<string> {
  return new Promise((resolve, reject) => {
    request({ socketPath, method, path: url }, (response) => resolve(text(response))).on('error', reject).end(body);
  });
}
