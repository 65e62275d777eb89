/** Progress and cancellation of calls that take long, by a real client. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { Progress } from '@modelcontextprotocol/sdk/types.js';
import { waitsFor, withProgress } from '../../src/surfaces/mcp-progress.ts';
import { findTool, tools } from '../../tools/index.ts';
import { openSession } from './client.ts';
import { sampleAnswers } from './sample-answers.ts';

test('a call that takes longer than a second tells about each second that it waits, and for what; not after its end', async () => {
  await using session = await openSession({
    invoke: async (command) => {
      await delay(3_500);
      return sampleAnswers[command];
    },
  });
  const told: Progress[] = [];
  const result = await session.client.callTool({ name: 'workload_stop', arguments: { name: 'web' } }, undefined, { onprogress: (progress) => void told.push(progress) });
  assert.equal(result.isError, undefined);
  assert.ok(told.length >= 2 && told.length <= 3, `${told.length} times`);
  assert.ok(told.every(({ progress }, index) => progress > (told[index - 1]?.progress ?? 0)), JSON.stringify(told));
  assert.ok(told.every(({ message }) => message?.includes('open connections to end')), JSON.stringify(told));
  const after = told.length;
  await delay(1_200);
  assert.equal(told.length, after);
});

test('a fast call tells of no progress, and one that failed is answered as ever', async () => {
  await using session = await openSession();
  const told: Progress[] = [];
  const onprogress = (progress: Progress): void => void told.push(progress);
  await session.client.callTool({ name: 'service_list' }, undefined, { onprogress });
  assert.equal((await session.client.callTool({ name: 'nonsense' }, undefined, { onprogress })).isError, true);
  await delay(1_200);
  assert.deepEqual(told, []);
});

test('a client that takes no progress is told no more of it, and its call goes on', async (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] });
  const told: number[] = [];
  const taken = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<string>();
  const outcome = withProgress({ name: 'network_probe' }, ({ progress }) => { told.push(progress); return taken.promise; }, () => ended.promise);
  t.mock.timers.tick(4_000);
  assert.deepEqual(told, [1]);
  taken.resolve();
  await delay(0);
  t.mock.timers.tick(1_000);
  assert.deepEqual(told, [1, 5]);
  ended.resolve('done');
  assert.equal(await outcome, 'done');
  t.mock.timers.tick(10_000);
  assert.deepEqual(told, [1, 5]);
});

test('what is waited for is said for every command', () => {
  for (const { toolName, effect } of tools) assert.match(waitsFor({ name: toolName }), effect === 'read' ? /answer|reaches/ : /kernel|proxy|connections/, toolName);
  assert.equal(findTool('nonsense'), undefined);
  assert.match(waitsFor({ name: 'nonsense' }), /the agent/);
});

test('a cancelled call is cancelled at the agent, and its client is answered nothing more', async () => {
  const asked = Promise.withResolvers<AbortSignal>();
  const done = Promise.withResolvers<void>();
  await using session = await openSession({
    invoke: async (command, _params, signal) => {
      if (command !== 'workload.stop') return sampleAnswers[command];
      asked.resolve(signal);
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
      done.resolve();
      return sampleAnswers[command];
    },
  });
  const errors: Error[] = [];
  // oxlint-disable-next-line unicorn/prefer-add-event-listener -- The SDK's client is no EventTarget.
  session.client.onerror = (error) => errors.push(error);
  const cancelling = new AbortController();
  const call = session.client.callTool({ name: 'workload_stop', arguments: { name: 'web' } }, undefined, { signal: cancelling.signal });
  const signal = await asked.promise;
  cancelling.abort('enough');
  await assert.rejects(call, /enough/);
  await done.promise;
  assert.equal(signal.aborted, true);
  assert.equal((await session.call('service_list')).isError, undefined, 'the session goes on');
  assert.deepEqual(errors, [], 'an answer to what was cancelled would be one to an unknown request');
});
