/** Sessions of MCP over HTTP: how they begin and end, what is a stream and what is not, who cancels what, and that nothing is left. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request, type IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { ResourceUpdatedNotificationSchema, type Progress } from '@modelcontextprotocol/sdk/types.js';
import { ClawError } from '../../src/errors.ts';
import type { Change } from '../../src/observed/changes.ts';
import { asRecord, AUTHORIZED, connectClient, raw, serve, USUAL, type Served } from './http-server.ts';
import { sampleAnswers } from './sample-answers.ts';

const INITIALIZE = { jsonrpc: '2.0', id: 0, method: 'initialize', params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 't', version: '1' } } };

function post(port: number, message: unknown, headers: Record<string, string> = {}): ReturnType<typeof raw> {
  return raw(port, { headers: { ...AUTHORIZED, ...headers }, body: JSON.stringify(message) });
}

/** The header of a fresh session. */
async function begin(port: number): Promise<{ 'mcp-session-id': string }> {
  const { status, headers } = await post(port, INITIALIZE);
  assert.equal(status, 200);
  return { 'mcp-session-id': String(headers['mcp-session-id']) };
}

/** A request whose answer is left to the test. */
async function open(t: TestContext, port: number, { method, headers, body }: { method: string; headers: Record<string, string>; body?: unknown }): Promise<IncomingMessage> {
  const outgoing = request({ host: '127.0.0.1', port, method, path: '/mcp', agent: false, headers: { ...USUAL, ...AUTHORIZED, ...headers } });
  t.after(() => outgoing.destroy());
  outgoing.on('error', () => undefined);
  outgoing.end(body === undefined ? undefined : JSON.stringify(body));
  const [response] = await once(outgoing, 'response');
  assert.ok(response !== undefined);
  response.on('error', () => undefined);
  return response;
}

/** An agent whose `workload.stop` waits until it is cancelled, and tells. */
function patientAgent() {
  const signals: AbortSignal[] = [];
  let asked = Promise.withResolvers<void>();
  return {
    signals,
    asked: async (): Promise<void> => {
      await asked.promise;
      asked = Promise.withResolvers();
    },
    invoke: async (command: string, _params: unknown, signal: AbortSignal): Promise<unknown> => {
      if (command !== 'workload.stop') return sampleAnswers[command];
      signals.push(signal);
      asked.resolve();
      if (!signal.aborted) await once(signal, 'abort');
      throw new ClawError('CANCELLED', 'cancelled');
    },
  };
}

const STOP = { jsonrpc: '2.0', id: 7, method: 'tools/call', params: { name: 'workload_stop', arguments: { name: 'web' } } };

async function aborted(signal: AbortSignal | undefined): Promise<void> {
  assert.ok(signal !== undefined);
  if (!signal.aborted) await once(signal, 'abort', { signal: AbortSignal.timeout(5_000) });
}

test('initialize begins a session; what names it is answered in it until DELETE ends it', async (t) => {
  const { port } = await serve(t);
  const session = await begin(port);
  assert.match(session['mcp-session-id'], /^[0-9a-f-]{36}$/);
  assert.notEqual((await begin(port))['mcp-session-id'], session['mcp-session-id']);
  const listed = await post(port, { jsonrpc: '2.0', id: 1, method: 'tools/list' }, session);
  assert.deepEqual({ status: listed.status, type: listed.headers['content-type'] }, { status: 200, type: 'application/json' });
  assert.equal((await raw(port, { method: 'DELETE', headers: session })).status, 401, 'the id of a session is no token');
  assert.equal((await raw(port, { method: 'DELETE', headers: { ...AUTHORIZED, ...session } })).status, 200);
  for (const method of ['POST', 'GET', 'DELETE']) {
    const { status, body } = await raw(port, { method, headers: { ...AUTHORIZED, ...session } });
    assert.equal(status, 404, method);
    assert.equal(asRecord(JSON.parse(body))['path'], 'Mcp-Session-Id');
  }
  assert.equal((await post(port, INITIALIZE, { 'mcp-session-id': 'of-another-server' })).status, 404);
  assert.equal((await raw(port, { method: 'PUT', headers: { ...AUTHORIZED, ...session } })).headers.allow, 'POST, GET, DELETE');
});

test('an answer is JSON, and a stream once something comes before it', async (t) => {
  const { port, defects } = await serve(t, {
    invoke: async (command) => {
      if (command === 'workload.stop') await delay(1_500);
      return sampleAnswers[command];
    },
  });
  const session = await begin(port);
  const call = (name: string, progressToken?: string) => ({ ...STOP, params: { ...STOP.params, name, ...(progressToken === undefined ? {} : { _meta: { progressToken } }) } });
  for (const headers of [session, {}]) {
    const plain = await post(port, call('workload_stop'), headers);
    assert.equal(plain.headers['content-type'], 'application/json', 'nobody asked for progress');
    const quick = await post(port, call('service_list', 'p'), headers);
    assert.equal(quick.headers['content-type'], 'application/json', 'there was none');
    const slow = await post(port, call('workload_stop', 'p'), headers);
    assert.equal(slow.headers['content-type'], 'text/event-stream');
    const events = slow.body.trim().split('\n\n').map((event) => asRecord(JSON.parse(event.replace(/^event: message\ndata: /, ''))));
    assert.deepEqual(events.map((event) => event['method'] ?? event['id']), ['notifications/progress', 7]);
    const batch = await post(port, [call('service_list'), { jsonrpc: '2.0', id: 8, method: 'ping' }], headers);
    assert.equal(batch.body.match(/^data: /gm)?.length, 2, 'each of two has an answer');
  }
  assert.deepEqual(defects, []);
});

test('the real client gets progress, and its abort cancels the call at the agent', async (t) => {
  const agent = patientAgent();
  const { port, defects } = await serve(t, { invoke: agent.invoke });
  const client = await connectClient(t, port);
  const cancelling = new AbortController();
  const told: Progress[] = [];
  const call = client.callTool({ name: 'workload_stop', arguments: { name: 'web' } }, undefined, { signal: cancelling.signal, onprogress: (progress) => void told.push(progress) });
  await agent.asked();
  while (told.length < 2) await delay(50);
  assert.deepEqual(told.slice(0, 2).map(({ progress }) => progress), [1, 2]);
  cancelling.abort('enough');
  await assert.rejects(call, /enough/);
  await aborted(agent.signals[0]);
  assert.equal((await client.callTool({ name: 'service_list' })).isError, undefined, 'the session goes on');
  assert.deepEqual(defects, []);
});

test('notifications/cancelled cancels that call alone and ends its stream without an answer', async (t) => {
  const agent = patientAgent();
  const { port } = await serve(t, { invoke: agent.invoke });
  const [mine, others] = await Promise.all([begin(port), begin(port)]);
  const first = post(port, STOP, mine);
  await agent.asked();
  const second = post(port, STOP, others).catch(() => undefined);
  await agent.asked();
  assert.equal((await post(port, { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 7 } }, mine)).status, 202);
  await aborted(agent.signals[0]);
  const { status, body } = await first;
  assert.deepEqual({ status, body }, { status: 200, body: '' });
  assert.equal(agent.signals[1]?.aborted, false, 'the same id in another session is another call');
  await raw(port, { method: 'DELETE', headers: { ...AUTHORIZED, ...others } });
  await aborted(agent.signals[1]);
  await second;
});

test('a call is cancelled by its id whatever that is, also 0 and a text', async (t) => {
  const agent = patientAgent();
  const { port } = await serve(t, { invoke: agent.invoke });
  const session = await begin(port);
  for (const [index, id] of [0, '', 'a'].entries()) {
    const call = post(port, { ...STOP, id }, session);
    await agent.asked();
    await post(port, { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: id } }, session);
    await aborted(agent.signals[index]);
    assert.equal((await call).body, '');
  }
});

test('a closed request cancels its call; the session, its other calls and its stream go on', async (t) => {
  const agent = patientAgent();
  const { port, defects } = await serve(t, { invoke: agent.invoke });
  const session = await begin(port);
  const stream = await open(t, port, { method: 'GET', headers: { ...session, accept: 'text/event-stream' } });
  const leaving = request({ host: '127.0.0.1', port, method: 'POST', path: '/mcp', agent: false, headers: { ...USUAL, ...AUTHORIZED, ...session } });
  leaving.on('error', () => undefined);
  leaving.end(JSON.stringify({ ...STOP, id: 1 }));
  await agent.asked();
  const staying = post(port, { ...STOP, id: 2 }, session).catch(() => undefined);
  await agent.asked();
  leaving.destroy();
  await aborted(agent.signals[0]);
  assert.equal(agent.signals[1]?.aborted, false);
  assert.equal(stream.destroyed, false);
  assert.equal((await post(port, { jsonrpc: '2.0', id: 3, method: 'ping' }, session)).status, 200);
  await raw(port, { method: 'DELETE', headers: { ...AUTHORIZED, ...session } });
  await staying;
  assert.equal(await text(stream), '', 'the end of the session ends its stream');
  assert.deepEqual(defects, []);
});

test('changes are told on the stream of the session, until it ends; listening ends with it', async (t) => {
  let listeners: ((change: Change) => void)[] = [];
  const changes = async function* (signal: AbortSignal): AsyncGenerator<Change> {
    let next = Promise.withResolvers<Change>();
    const listener = (change: Change): void => next.resolve(change);
    listeners.push(listener);
    signal.addEventListener('abort', () => next.resolve({ revision: 0 }), { once: true });
    yield { revision: 1 };
    while (!signal.aborted) {
      const change = await next.promise;
      next = Promise.withResolvers();
      if (!signal.aborted) yield change;
    }
    listeners = listeners.filter((other) => other !== listener);
  };
  const { port, stop } = await serve(t, { changes });
  const clients = await Promise.all([connectClient(t, port), connectClient(t, port)]);
  const told: string[] = [];
  for (const [index, client] of clients.entries()) {
    client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params: { uri } }) => void told.push(`${index} ${uri}`));
  }
  await clients[0]?.subscribeResource({ uri: 'network://services' });
  await clients[1]?.subscribeResource({ uri: 'network://policies' });
  for (const listener of listeners) listener({ revision: 2, keys: ['services/default/web'] });
  await delay(200);
  assert.deepEqual(told, ['0 network://services']);
  const [transport] = clients.map((client) => client.transport);
  assert.ok(transport !== undefined && 'terminateSession' in transport && typeof transport.terminateSession === 'function');
  await transport.terminateSession();
  await delay(50);
  assert.equal(listeners.length, 1);
  await stop();
  await delay(50);
  assert.equal(listeners.length, 0);
});

test('only one stream is opened for a session, and a session may open one again', async (t) => {
  const { port } = await serve(t);
  const session = await begin(port);
  const headers = { ...session, accept: 'text/event-stream' };
  const stream = await open(t, port, { method: 'GET', headers });
  assert.equal(stream.headers['content-type'], 'text/event-stream');
  assert.equal((await raw(port, { method: 'GET', headers: { ...AUTHORIZED, ...headers } })).status, 409);
  stream.destroy();
  await delay(100);
  assert.equal((await open(t, port, { method: 'GET', headers })).statusCode, 200);
});

test('sessions are limited: the one that nobody used for longest ends, and none that is in use', { timeout: 60_000 }, async (t) => {
  const { port } = await serve(t);
  const used = await begin(port);
  await open(t, port, { method: 'GET', headers: { ...used, accept: 'text/event-stream' } });
  const idle = await begin(port);
  const last = await beginMany(port, 254);
  const ping = async (session: Record<string, string>): Promise<number> => (await post(port, { jsonrpc: '2.0', id: 1, method: 'ping' }, session)).status;
  assert.deepEqual(await Promise.all([used, idle, last].map(ping)), [200, 200, 200]);
  await beginMany(port, 255);
  assert.deepEqual(await Promise.all([used, idle, last].map(ping)), [200, 404, 404]);
});

test('many that begin at once are no more sessions than there may be', { timeout: 60_000 }, async (t) => {
  const { port, defects } = await serve(t);
  const sessions: { 'mcp-session-id': string }[] = [];
  for (let round = 0; round < 4; round += 1) sessions.push(...(await Promise.all(Array.from({ length: 100 }, () => begin(port)))));
  const answers: number[] = [];
  for (const session of sessions) answers.push((await post(port, { jsonrpc: '2.0', id: 1, method: 'ping' }, session)).status);
  assert.equal(answers.filter((status) => status === 200).length, 256);
  assert.deepEqual(defects, []);
});

async function beginMany(port: number, count: number): ReturnType<typeof begin> {
  let last = await begin(port);
  for (let index = 1; index < count; index += 1) last = await begin(port);
  return last;
}

test('an initialize that is refused leaves no session', async (t) => {
  const { port } = await serve(t);
  const { status, headers } = await post(port, INITIALIZE, { accept: 'application/json' });
  assert.deepEqual({ status, session: headers['mcp-session-id'] }, { status: 406, session: undefined });
});

test('the end of the server ends streams and calls', async (t) => {
  const agent = patientAgent();
  const served: Served = await serve(t, { invoke: agent.invoke });
  const session = await begin(served.port);
  const stream = await open(t, served.port, { method: 'GET', headers: { ...session, accept: 'text/event-stream' } });
  const call = post(served.port, STOP, session).catch(() => undefined);
  await agent.asked();
  await served.stop();
  await aborted(agent.signals[0]);
  await call;
  await text(stream).catch(() => undefined);
  assert.deepEqual(served.defects, []);
});
