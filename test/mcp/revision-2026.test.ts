/** Clients of revision 2026-07-28, by its own client library, on both transports: what they list, call, cancel and listen to, beside clients of today. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { IncomingMessage, request } from 'node:http';
import { test, type TestContext } from 'node:test';
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';
import { Client, InMemoryTransport, ProtocolError, StreamableHTTPClientTransport, type Progress } from '@modelcontextprotocol/client';
import { ClawError } from '../../src/errors.ts';
import type { McpServerOptions } from '../../src/surfaces/mcp-server.ts';
import { serveMcp } from '../../src/surfaces/mcp.ts';
import { tools } from '../../tools/index.ts';
import { AUTHORIZED, connectClient, raw, serve, USUAL } from './http-server.ts';
import { sampleAnswers } from './sample-answers.ts';
import { scriptedChanges } from './scripted-changes.ts';

const REVISION = '2026-07-28';
const STATUS = 'network://status';
const WEB = 'network://services/default/web';

interface Connected {
  readonly client: Client;
  /** URIs that the client was told of, in their order. */
  readonly updates: string[];
}

/** A server and a client of it, on the transport. */
type Connect = (t: TestContext, options?: Partial<McpServerOptions>) => Promise<Connected>;

const inMemory: Connect = async (t, options = {}) => {
  const [near, far] = InMemoryTransport.createLinkedPair();
  const ending = new AbortController();
  const invoke: McpServerOptions['invoke'] = options.invoke ?? (async (command) => sampleAnswers[command] ?? Promise.reject(new ClawError('UNKNOWN_COMMAND', 'no sample')));
  const served = serveMcp({ version: '0.0.1', introduction: 'You program node n1.', ...options, invoke, transport: far }, ending.signal);
  t.after(async () => {
    ending.abort();
    await served;
  });
  return connect(t, near);
};

const overHttp: Connect = async (t, options) => {
  const { port } = await serve(t, options);
  return connect(t, transportTo(port));
};

function transportTo(port: number): StreamableHTTPClientTransport {
  return new StreamableHTTPClientTransport(new URL(`http://127.0.0.1:${port}/mcp`), { requestInit: { headers: AUTHORIZED } });
}

async function connect(t: TestContext, transport: Parameters<Client['connect']>[0]): Promise<Connected> {
  const client = new Client({ name: 'test', version: '1' }, { versionNegotiation: { mode: { pin: REVISION } } });
  const updates: string[] = [];
  client.setNotificationHandler('notifications/resources/updated', ({ params: { uri } }) => void updates.push(uri));
  await client.connect(transport);
  t.after(() => client.close());
  return { client, updates };
}

for (const [name, open] of [['stdio', inMemory], ['HTTP', overHttp]] as const) {
  test(`${name}: a client lists, calls, reads and is told what is wrong`, async (t) => {
    const { client } = await open(t);
    assert.match(client.getInstructions() ?? '', /^You program node n1\. /);
    assert.deepEqual((await client.listTools()).tools.map((tool) => tool.name), tools.map(({ toolName }) => toolName));
    const { structuredContent } = await client.callTool({ name: 'service_get', arguments: { name: 'web' } });
    assert.deepEqual(structuredContent, sampleAnswers['service.get']);
    const failed = await client.callTool({ name: 'nonsense' });
    assert.equal(failed.isError, true);
    assert.match(JSON.stringify(failed.content), /UNKNOWN_COMMAND/);
    assert.equal((await client.readResource({ uri: STATUS })).contents.length, 1);
    await assert.rejects(client.readResource({ uri: 'network://nothing' }), (error) => error instanceof ProtocolError && error.code === -32_602);
    assert.equal((await client.getPrompt({ name: 'api_gateway', arguments: { host: 'api.example.com', backends: 'auth' } })).messages.length, 1);
  });

  test(`${name}: what is listened to is told, and nothing else, until the listening ends`, async (t) => {
    const agent = scriptedChanges();
    const { client, updates } = await open(t, { changes: agent.changes });
    const subscription = await client.listen({ resourceSubscriptions: [STATUS, WEB] });
    assert.deepEqual(subscription.honoredFilter, { resourceSubscriptions: [STATUS, WEB] });
    assert.equal(agent.listening(), 1);
    agent.tell(['services/default/web']);
    await until(() => updates.length === 2);
    assert.deepEqual(updates.toSorted(), [WEB, STATUS]);
    agent.tell(['services/default/other']);
    await until(() => updates.length === 3);
    assert.equal(updates[2], STATUS);
    await subscription.close();
    await until(() => agent.listening() === 0);
    agent.tell();
    await delay(50);
    assert.equal(updates.length, 3);
  });

  test(`${name}: what can not be read can not be listened to, and nothing of such a listen stays`, async (t) => {
    const agent = scriptedChanges();
    const { client } = await open(t, {
      changes: agent.changes,
      invoke: async (command) => {
        if (command === 'network.policy.list') throw new ClawError('NOT_ALLOWED', `${command} belongs to another toolset`);
        return sampleAnswers[command];
      },
    });
    for (const [uri, code] of [['network://policies', -32_600], ['network://nothing', -32_602]] as const) {
      await assert.rejects(client.listen({ resourceSubscriptions: [STATUS, uri] }), (error) => error instanceof ProtocolError && error.code === code, uri);
    }
    await until(() => agent.listening() === 0);
  });

  test(`${name}: a listen that waits for the agent holds up no other request, and can be given up`, async (t) => {
    const ended: string[] = [];
    const { client } = await open(t, {
      changes: scriptedChanges().changes,
      invoke: async (command, _params, signal) => {
        if (command !== 'network.status') return sampleAnswers[command];
        return delay(60_000, undefined, { signal }).finally(() => ended.push(command));
      },
    });
    const leaving = new AbortController();
    const listen = client.listen({ resourceSubscriptions: [STATUS] }, { signal: leaving.signal });
    listen.catch(() => undefined);
    const { structuredContent } = await client.callTool({ name: 'service_get', arguments: { name: 'web' } }, { timeout: 10_000 });
    assert.deepEqual(structuredContent, sampleAnswers['service.get']);
    leaving.abort();
    await assert.rejects(listen);
    await until(() => ended.length === 1);
  });

  test(`${name}: an agent that tells of no changes is told to who wants to listen`, async (t) => {
    const { client } = await open(t, {
      changes: async function* () {
        yield* [];
        await Promise.reject(new ClawError('AGENT_UNREACHABLE', 'no agent', { hint: 'Start it.' }));
      },
    });
    await assert.rejects(client.listen({ resourceSubscriptions: [STATUS] }), /AGENT_UNREACHABLE: no agent/);
  });

  test(`${name}: a long call tells of its progress, and a cancelled one ends at the agent`, async (t) => {
    const signals: AbortSignal[] = [];
    const { client } = await open(t, {
      invoke: async (_command, _params, signal) => {
        signals.push(signal);
        await delay(30_000, undefined, { signal });
      },
    });
    const told: Progress[] = [];
    const leaving = new AbortController();
    const call = client.callTool({ name: 'workload_stop', arguments: { name: 'web' } }, { signal: leaving.signal, onprogress: (progress) => void told.push(progress) });
    await until(() => told.length > 0);
    assert.match(told[0]?.message ?? '', /open connections to end/);
    leaving.abort();
    await assert.rejects(call);
    await until(() => signals[0]?.aborted === true);
  });
}

test('HTTP: a client of today and one of the revision are served beside each other, and neither without the token', async (t) => {
  const { port, defects } = await serve(t);
  const [{ client: newer }, older] = await Promise.all([connect(t, transportTo(port)), connectClient(t, port)]);
  const answers = await Promise.all(Array.from({ length: 200 }, (_, index) => (index % 2 === 0 ? newer : older).callTool({ name: 'service_get', arguments: { name: 'web' } })));
  assert.ok(answers.every(({ structuredContent }) => structuredContent !== undefined));
  const discover = { jsonrpc: '2.0', id: 1, method: 'server/discover', params: { _meta: { 'io.modelcontextprotocol/protocolVersion': REVISION, 'io.modelcontextprotocol/clientCapabilities': {} } } };
  const headers = { 'mcp-protocol-version': REVISION, 'mcp-method': 'server/discover' };
  assert.equal((await raw(port, { headers: { ...AUTHORIZED, ...headers }, body: JSON.stringify(discover) })).status, 200);
  assert.equal((await raw(port, { headers, body: JSON.stringify(discover) })).status, 401);
  assert.equal((await raw(port, { headers: { ...AUTHORIZED, ...headers, origin: 'http://evil.example.com' }, body: JSON.stringify(discover) })).status, 403);
  assert.deepEqual(defects, []);
});

test('HTTP: a listener that goes away without a word is forgotten', async (t) => {
  const agent = scriptedChanges();
  const { client } = await overHttp(t, { changes: agent.changes });
  await client.listen({ resourceSubscriptions: [STATUS] });
  assert.equal(agent.listening(), 1);
  await client.close();
  await until(() => agent.listening() === 0);
});

test('HTTP: a listener that takes nothing for a minute is forgotten, whatever is still to be told', { timeout: 60_000 }, async (t) => {
  const agent = scriptedChanges();
  const { port } = await serve(t, { changes: agent.changes });
  const uris = Array.from({ length: 100 }, (_, index) => `network://services/default/web-${index}`);
  const _meta = { 'io.modelcontextprotocol/protocolVersion': REVISION, 'io.modelcontextprotocol/clientCapabilities': {} };
  const headers = { ...USUAL, ...AUTHORIZED, 'mcp-protocol-version': REVISION, 'mcp-method': 'subscriptions/listen' };
  const listen = request({ host: '127.0.0.1', port, path: '/mcp', method: 'POST', agent: false, headers });
  listen.on('error', () => undefined);
  t.after(() => listen.destroy());
  listen.end(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'subscriptions/listen', params: { _meta, notifications: { resourceSubscriptions: uris } } }));
  const [response] = await once(listen, 'response');
  assert.ok(response instanceof IncomingMessage);
  response.on('error', () => undefined);
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const turns = async (ms: number): Promise<void> => {
    for (const end = performance.now() + ms; performance.now() < end && agent.listening() > 0; ) await nextTurn();
  };
  // More than the kernel keeps for one who does not read.
  for (let change = 0; change < 1_000; change += 1) agent.tell();
  await turns(3_000);
  assert.equal(agent.listening(), 1);
  t.mock.timers.tick(61_000);
  await turns(10_000);
  assert.equal(agent.listening(), 0);
});

async function until(holds: () => boolean): Promise<void> {
  for (const deadline = performance.now() + 10_000; !holds(); ) {
    assert.ok(performance.now() < deadline, 'it did not come to that within 10 s');
    await delay(10);
  }
}
