/** What an MCP client can read as resources: the answers of the commands behind them, within the limits of the session. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ErrorCode as McpErrorCode, McpError } from '@modelcontextprotocol/sdk/types.js';
import { ClawError } from '../../src/errors.ts';
import { findTool } from '../../tools/index.ts';
import { openSession, type Session } from './client.ts';
import { sampleAnswers } from './sample-answers.ts';

async function read({ client }: Session, uri: string): Promise<unknown> {
  const { contents } = await client.readResource({ uri });
  const [content, ...others] = contents;
  assert.equal(others.length, 0);
  assert.ok(content !== undefined && 'text' in content);
  assert.deepEqual({ uri: content.uri, mimeType: content.mimeType }, { uri, mimeType: 'application/json' });
  return JSON.parse(content.text);
}

async function refused(session: Session, uri: string): Promise<McpError> {
  const error: unknown = await session.client.readResource({ uri }).then(() => assert.fail('it was read'), (thrown: unknown) => thrown);
  assert.ok(error instanceof McpError, String(error));
  return error;
}

test('status and services are listed and answer what their commands answer', async () => {
  await using session = await openSession();
  const { resources } = await session.client.listResources();
  const policies = findTool('network.policy.list') === undefined ? [] : ['network://policies'];
  assert.deepEqual(resources.map(({ uri }) => uri), ['network://status', 'network://services', ...policies]);
  for (const { name, title, description, mimeType } of resources) {
    assert.ok(name.length > 3 && title !== undefined && description !== undefined && mimeType === 'application/json', name);
  }
  assert.deepEqual(await read(session, 'network://status'), sampleAnswers['network.status']);
  assert.deepEqual(await read(session, 'network://services'), sampleAnswers['service.list']);
  assert.deepEqual(session.calls, [
    { command: 'network.status', params: {} },
    { command: 'service.list', params: { limit: 500 } },
  ]);
});

test('what the listed resources ask for is what their commands take', async () => {
  await using session = await openSession();
  for (const { uri } of (await session.client.listResources()).resources) await read(session, uri);
  for (const { command, params } of session.calls) assert.equal(findTool(command)?.input.safeParse(params).success, true, command);
});

test('one service is a template', async () => {
  await using session = await openSession();
  const { resourceTemplates } = await session.client.listResourceTemplates();
  assert.deepEqual(resourceTemplates.map(({ uriTemplate }) => uriTemplate), ['network://services/{namespace}/{name}']);
  assert.deepEqual(await read(session, 'network://services/team-a/web'), sampleAnswers['service.get']);
  assert.deepEqual(session.calls, [{ command: 'service.get', params: { namespace: 'team-a', name: 'web' } }]);
});

test('what is not there is the protocol error for that, with the code, path and hint of ours as its data', async () => {
  await using session = await openSession({
    invoke: async () => {
      throw new ClawError('SERVICE_NOT_FOUND', 'there is no service default/\u001B[31mx\u202E', { path: 'name', hint: 'service.list shows what exists.' });
    },
  });
  const missing = await refused(session, 'network://services/default/x');
  assert.equal(missing.code, -32_602);
  assert.deepEqual(missing.data, { uri: 'network://services/default/x', code: 'SERVICE_NOT_FOUND', message: 'there is no service default/x', path: 'name', hint: 'service.list shows what exists.' });
  for (const uri of ['network://nothing', 'network://services/', 'network://services/a/b/c', 'file:///etc/passwd']) {
    const { code, data } = await refused(session, uri);
    assert.deepEqual({ code, data }, { code: -32_602, data: { uri } });
  }
  assert.equal(session.calls.length, 1, 'what is no resource reaches no agent');
});

test('a session sees the resources of its toolsets, and the agent refuses the others', async () => {
  await using narrow = await openSession({
    toolsets: ['ingress'],
    invoke: async (command) => {
      throw new ClawError('NOT_ALLOWED', `${command} belongs to another toolset`, { path: 'command' });
    },
  });
  assert.deepEqual((await narrow.client.listResources()).resources, []);
  assert.deepEqual((await narrow.client.listResourceTemplates()).resourceTemplates, []);
  for (const uri of ['network://status', 'network://services', 'network://services/default/web']) {
    const error = await refused(narrow, uri);
    assert.equal(error.code, McpErrorCode.InvalidRequest, uri);
    assert.match(JSON.stringify(error.data), /"code":"NOT_ALLOWED"/);
  }
  // The attempt is handed on, so that it is refused and written down where everything is.
  assert.deepEqual(narrow.calls.map(({ command }) => command), ['network.status', 'service.list', 'service.get']);
});

test('a session that only reads has all of them', async () => {
  await using session = await openSession({ readOnly: true });
  assert.ok((await session.client.listResources()).resources.length >= 2);
});

test('a reading is cancelled with its session', async () => {
  let aborted: AbortSignal | undefined;
  const asked = Promise.withResolvers<void>();
  await using session = await openSession({
    invoke: async (_command, _params, signal) => {
      aborted = signal;
      asked.resolve();
      await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }));
    },
  });
  const reading = session.client.readResource({ uri: 'network://status' });
  reading.catch(() => undefined);
  await asked.promise;
  await session.stop();
  assert.equal(aborted?.aborted, true);
});
