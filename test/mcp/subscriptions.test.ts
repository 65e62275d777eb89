/** Subscriptions to resources: which change is told of which resource, and that listening ends with the last of them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { McpError, ResourceUpdatedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';
import { ClawError } from '../../src/errors.ts';
import type { Change } from '../../src/observed/changes.ts';
import { openSession, type Session } from './client.ts';
import { sampleAnswers } from './sample-answers.ts';
import { scriptedChanges } from './scripted-changes.ts';

const STATUS = 'network://status';
const SERVICES = 'network://services';
const POLICIES = 'network://policies';
const WEB = 'network://services/default/web';

function updatesOf({ client }: Session): string[] {
  const uris: string[] = [];
  client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params: { uri } }) => void uris.push(uri));
  return uris;
}

test('each resource is told of what it shows, once for each change, and of nothing else', async () => {
  const agent = scriptedChanges();
  await using session = await openSession({ changes: agent.changes });
  assert.deepEqual(session.client.getServerCapabilities()?.resources, { subscribe: true });
  const uris = updatesOf(session);
  for (const uri of [STATUS, SERVICES, POLICIES, WEB]) await session.client.subscribeResource({ uri });
  assert.equal(agent.begun(), 1, 'one stream for all of them');
  const told = async (keys?: readonly string[]): Promise<string[]> => {
    agent.tell(keys);
    await delay(30);
    return uris.splice(0);
  };
  assert.deepEqual(await told([]), [STATUS]);
  assert.deepEqual(await told(['workloads/default/web']), [STATUS]);
  assert.deepEqual(await told(['services/default/web']), [STATUS, SERVICES, WEB]);
  assert.deepEqual(await told(['services/default/web-2', 'services/team-a/web']), [STATUS, SERVICES]);
  assert.deepEqual(await told(['policies/default/web']), [STATUS, POLICIES]);
  assert.deepEqual(await told(undefined), [STATUS, SERVICES, POLICIES, WEB], 'after a restart anything may be another');
});

test('what nobody subscribed to is not told, nor what was unsubscribed; listening ends with the last', async () => {
  const agent = scriptedChanges();
  await using session = await openSession({ changes: agent.changes });
  const uris = updatesOf(session);
  assert.equal(agent.begun(), 0, 'nobody listens before there is a subscription');
  await session.client.subscribeResource({ uri: SERVICES });
  await session.client.subscribeResource({ uri: POLICIES });
  await session.client.unsubscribeResource({ uri: SERVICES });
  agent.tell(undefined);
  await delay(30);
  assert.deepEqual(uris, [POLICIES]);
  await session.client.unsubscribeResource({ uri: POLICIES });
  await delay(10);
  assert.equal(agent.listening(), 0);
  await session.client.subscribeResource({ uri: SERVICES });
  assert.equal(agent.listening(), 1);
  agent.tell([`services/default/web`]);
  await delay(30);
  assert.deepEqual(uris, [POLICIES, SERVICES]);
});

test('the end of the session ends the listening', async () => {
  const agent = scriptedChanges();
  await using session = await openSession({ changes: agent.changes });
  await session.client.subscribeResource({ uri: STATUS });
  assert.equal(agent.listening(), 1);
  await session.stop();
  await delay(10);
  assert.equal(agent.listening(), 0);
});

test('what can not be read can not be subscribed to', async () => {
  const agent = scriptedChanges();
  const invoke = async (command: string): Promise<unknown> => {
    if (command !== 'service.get') throw new ClawError('NOT_ALLOWED', `${command} belongs to another toolset`);
    throw new ClawError('SERVICE_NOT_FOUND', 'there is no service default/web');
  };
  await using session = await openSession({ changes: agent.changes, invoke });
  for (const [uri, code] of [[WEB, -32_602], ['network://nothing', -32_602], [STATUS, -32_600]] as const) {
    await assert.rejects(session.client.subscribeResource({ uri }), (error) => error instanceof McpError && error.code === code, uri);
  }
  assert.equal(agent.begun(), 0);
});

test('an agent that tells of no changes is an error of the subscription, and the next one tries again', async () => {
  let attempts = 0;
  const changes = async function* (): AsyncGenerator<Change> {
    attempts += 1;
    if (attempts === 1) throw new ClawError('AGENT_UNREACHABLE', 'the agent tells of no changes', { hint: 'Start it.' });
    yield { revision: 1 };
  };
  await using session = await openSession({ changes, invoke: async (command) => sampleAnswers[command] });
  await assert.rejects(session.client.subscribeResource({ uri: STATUS }), (error) => error instanceof McpError && /AGENT_UNREACHABLE: the agent tells of no changes/.test(error.message) && /"hint":"Start it/.test(JSON.stringify(error.data)));
  await session.client.subscribeResource({ uri: STATUS });
});

test('what is unsubscribed while another subscription begins does not take that with it', async () => {
  const agent = scriptedChanges();
  const asked = Promise.withResolvers<void>();
  const begins = Promise.withResolvers<void>();
  const changes = async function* (signal: AbortSignal): AsyncGenerator<Change> {
    asked.resolve();
    await begins.promise;
    yield* agent.changes(signal);
  };
  await using session = await openSession({ changes });
  const uris = updatesOf(session);
  const subscribed = session.client.subscribeResource({ uri: SERVICES });
  await asked.promise;
  await session.client.unsubscribeResource({ uri: POLICIES });
  begins.resolve();
  await subscribed;
  assert.equal(agent.listening(), 1);
  agent.tell([]);
  agent.tell(['services/default/web']);
  await delay(30);
  assert.deepEqual(uris, [SERVICES]);
});

test('a client subscribes to so many resources and no more; again to the same is none more', async () => {
  const agent = scriptedChanges();
  await using session = await openSession({ changes: agent.changes });
  const named = (index: number): { uri: string } => ({ uri: `network://services/default/web-${index}` });
  for (let index = 0; index < 500; index += 1) await session.client.subscribeResource(named(index));
  await session.client.subscribeResource(named(7));
  await assert.rejects(session.client.subscribeResource(named(500)), /LIMIT_EXCEEDED: a client subscribes to at most 500 resources/);
  await session.client.unsubscribeResource(named(7));
  await session.client.subscribeResource(named(500));
});

test('without changes to listen to, subscribing is not offered', async () => {
  await using session = await openSession();
  assert.deepEqual(session.client.getServerCapabilities()?.resources, {});
  await assert.rejects(session.client.subscribeResource({ uri: STATUS }), /Method not found/);
});
