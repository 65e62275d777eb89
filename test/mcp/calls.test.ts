/** What tools/call does, seen by a real MCP client that checks answers against the listed schemas. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { ClawError } from '../../src/errors.ts';
import { tools } from '../../tools/index.ts';
import { errorOf, openSession, textOf } from './client.ts';
import { sampleAnswers } from './sample-answers.ts';

test('every tool answers with structured content that the client accepts, and a text', async () => {
  await using session = await openSession();
  for (const { command, toolName } of tools) {
    const result = await session.call(toolName, { name: 'web' });
    assert.equal(result.isError, undefined, command);
    if (command !== 'workload.logs') assert.deepEqual(result.structuredContent, sampleAnswers[command]);
    assert.equal(result.content.length, 1);
    assert.ok(textOf(result).startsWith(command), textOf(result));
    assert.ok(!textOf(result).startsWith('{'));
  }
});

test('arguments reach the agent untouched under the dotted id, also when the call uses it', async () => {
  await using session = await openSession();
  const args = { name: 'web', unknown: { deep: [1, 'x', null] } };
  await session.call('service_create', args);
  await session.call('service.create', args);
  await session.call('network_status');
  assert.deepEqual(session.calls, [
    { command: 'service.create', params: args },
    { command: 'service.create', params: args },
    { command: 'network.status', params: {} },
  ]);
});

test("the agent's error is one text with code, message, path and hint", async () => {
  const thrown = new ClawError('INVALID_ARGUMENT', 'port 0 is below 1', { path: 'ports[1].port', hint: 'Give 1 to 65535.' });
  await using session = await openSession({ invoke: async () => Promise.reject(thrown) });
  const result = await session.call('service_create', { name: 'web' });
  assert.deepEqual(errorOf(result), { code: 'INVALID_ARGUMENT', message: 'port 0 is below 1', path: 'ports[1].port', hint: 'Give 1 to 65535.' });
});

test('a defect is told as INTERNAL, and an answer that is no object as well', async () => {
  await using broken = await openSession({ invoke: async () => Promise.reject(new TypeError('x is not a function')) });
  assert.equal(errorOf(await broken.call('service_list'))['code'], 'INTERNAL');
  await using odd = await openSession({ invoke: async () => ['not', 'an', 'object'] });
  assert.equal(errorOf(await odd.call('service_list'))['code'], 'INTERNAL');
});

test('a tool that is unknown or hidden is handed on, for the agent to refuse and to write down', async () => {
  await using session = await openSession({ readOnly: true, toolsets: ['services'] });
  assert.equal(errorOf(await session.call('service_make', {}))['code'], 'UNKNOWN_COMMAND');
  await session.call('service_create', { name: 'web' });
  await session.call('ingress.delete', { name: 'web' });
  assert.deepEqual(session.calls.map(({ command }) => command), ['service_make', 'service.create', 'ingress.delete']);
});

test('a request that the client cancels aborts the call to the agent', async () => {
  const started = Promise.withResolvers<AbortSignal>();
  await using session = await openSession({
    invoke: async (_command, _params, signal) => {
      started.resolve(signal);
      await once(signal, 'abort');
      throw new ClawError('CANCELLED', 'cancelled');
    },
  });
  const canceller = new AbortController();
  const call = session.client.callTool({ name: 'service_list' }, undefined, { signal: canceller.signal });
  const signal = await started.promise;
  assert.equal(signal.aborted, false);
  canceller.abort('enough');
  await assert.rejects(call);
  if (!signal.aborted) await once(signal, 'abort');
});

test('the end of the server aborts what runs', async () => {
  const started = Promise.withResolvers<AbortSignal>();
  await using session = await openSession({
    invoke: async (_command, _params, signal) => {
      started.resolve(signal);
      await once(signal, 'abort');
      throw new ClawError('CANCELLED', 'cancelled');
    },
  });
  const call = session.client.callTool({ name: 'service_list' });
  const refused = assert.rejects(call);
  const signal = await started.promise;
  await session.stop();
  assert.equal(signal.aborted, true);
  await refused;
});

test('what comes from outside is stripped in text, structure and errors', async () => {
  const nasty = '\u001B]8;;http://evil\u0007click\u001B]8;;\u0007 \u202Eabc\u202C\u200B\u{E0041} x\nIGNORE';
  await using session = await openSession({
    invoke: async (command) => {
      if (command === 'workload.logs') return { namespace: 'default', name: 'web', lines: [nasty] };
      throw new ClawError('WORKLOAD_FAILED', nasty, { hint: nasty });
    },
  });
  const result = await session.call('workload_logs', { name: 'web' });
  assert.deepEqual(result.structuredContent?.['lines'], ['click abc x IGNORE']);
  assert.equal(textOf(result), 'workload.logs default/web: 1 line\nclick abc x IGNORE');
  const error = errorOf(await session.call('workload_get', { name: 'web' }));
  assert.equal(error['message'], 'click abc x IGNORE');
  assert.equal(error['hint'], 'click abc x IGNORE');
});
