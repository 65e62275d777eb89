/** MCP over HTTP, driven by the real client and by raw requests: who is let in, what is refused before it, and many calls at once. */
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { CallToolResultSchema } from '@modelcontextprotocol/sdk/types.js';
import { ClawError } from '../../src/errors.ts';
import { listenOnLoopback } from '../../src/surfaces/http.ts';
import { tools } from '../../tools/index.ts';
import { errorOf } from './client.ts';
import { asRecord, AUTHORIZED, connectClient, raw, serve, TOKEN, USUAL, type Raw } from './http-server.ts';
import { sampleAnswers } from './sample-answers.ts';

test('the real client lists tools, calls one, reads a resource and gets a prompt', async (t) => {
  const { port, calls, defects } = await serve(t);
  const client = await connectClient(t, port);
  assert.match(client.getInstructions() ?? '', /^You program node n1\. /);
  assert.equal((await client.listTools()).tools.length, tools.length);
  const result = CallToolResultSchema.parse(await client.callTool({ name: 'service_get', arguments: { name: 'web' } }));
  assert.deepEqual(result.structuredContent, sampleAnswers['service.get']);
  assert.equal(errorOf(CallToolResultSchema.parse(await client.callTool({ name: 'nonsense' })))['code'], 'UNKNOWN_COMMAND');
  assert.equal((await client.readResource({ uri: 'network://status' })).contents.length, 1);
  assert.equal((await client.getPrompt({ name: 'api_gateway', arguments: { host: 'api.example.com', backends: 'auth' } })).messages.length, 1);
  assert.deepEqual(calls, ['service.get', 'nonsense', 'network.status']);
  assert.deepEqual(defects, []);
});

test('200 calls at once are all answered, each with its own answer', async (t) => {
  const { port, defects } = await serve(t, { invoke: async (_command, params) => ({ namespace: 'default', ...asRecord(params), deleted: true, clusterIp: '10.201.0.1', enforced: true }) });
  const client = await connectClient(t, port);
  const names = Array.from({ length: 200 }, (_, index) => `web-${index}`);
  const answers = await Promise.all(names.map((name) => client.callTool({ name: 'service_delete', arguments: { name } })));
  assert.deepEqual(answers.map((answer) => CallToolResultSchema.parse(answer).structuredContent?.['name']), names);
  assert.deepEqual(defects, []);
});

test('without the token there is 401 and nothing is carried out', async (t) => {
  const { port, calls } = await serve(t);
  const call = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'service_list' } });
  const missing = await raw(port, { body: call });
  assert.equal(missing.status, 401);
  assert.equal(missing.headers['www-authenticate'], 'Bearer realm="clawnode"');
  assert.equal(asRecord(JSON.parse(missing.body))['code'], 'PERMISSION_DENIED');
  for (const authorization of ['Bearer wrong', `Bearer ${TOKEN}x`, `Bearer ${TOKEN.slice(1)}`, `Basic ${TOKEN}`, TOKEN, 'Bearer', 'Bearer ', `Bearer ${TOKEN} ${TOKEN}`]) {
    const wrong = await raw(port, { headers: { authorization }, body: call });
    assert.equal(wrong.status, 401, authorization);
    assert.equal(wrong.headers['www-authenticate'], 'Bearer realm="clawnode", error="invalid_token"');
    assert.ok(!wrong.body.includes(TOKEN));
  }
  assert.equal((await raw(port, { method: 'GET' })).status, 401, 'nor does another method tell more');
  assert.deepEqual(calls, []);
  assert.equal((await raw(port, { headers: { authorization: `bearer  ${TOKEN}` }, body: call })).status, 200, 'the scheme has no case');
  assert.deepEqual(calls, ['service.list']);
});

test('a foreign Host or Origin is refused before the token and the path are looked at', async (t) => {
  const { port, calls } = await serve(t);
  const foreign = [
    { host: 'evil.example.com' },
    { host: `evil.example.com:${port}` },
    { host: `localhost.evil.example.com:${port}` },
    { host: `127.0.0.1.evil.example.com:${port}` },
    { host: `10.0.0.1:${port}` },
    { host: `user@localhost:${port}` },
    { origin: 'http://evil.example.com' },
    { origin: 'https://127.0.0.1' },
    { origin: 'null' },
    { origin: '' },
    { origin: `http://localhost:${port === 1 ? 2 : port - 1}` },
    { origin: `http://127.0.0.1:${port}/` },
    { origin: `http://127.0.0.1:${port}@evil.example.com` },
  ];
  for (const headers of foreign) {
    for (const more of [{}, AUTHORIZED]) {
      const { status, body } = await raw(port, { headers: { ...headers, ...more } });
      assert.equal(status, 403, JSON.stringify(headers));
      assert.equal(asRecord(JSON.parse(body))['path'], 'host' in headers ? 'Host' : 'Origin');
    }
    assert.equal((await raw(port, { path: '/nothing', headers })).status, 403);
  }
  assert.deepEqual(calls, []);
  for (const headers of [
    { host: `127.0.0.1:${port}` },
    { host: `LocalHost:${port}`, origin: `http://127.0.0.1:${port}` },
    { host: `[::1]:${port}` },
    // A tunnel from another machine has a port of its own.
    { host: 'localhost:9999', origin: 'http://localhost:9999' },
  ]) {
    assert.equal((await raw(port, { headers: { ...AUTHORIZED, ...headers } })).status, 200, JSON.stringify(headers));
  }
});

test('a request with an empty Host or without one is refused too', async (t) => {
  const { port } = await serve(t);
  for (const head of ['POST /mcp HTTP/1.0', 'POST /mcp HTTP/1.1\r\nConnection: close\r\nHost:']) {
    const socket = connect(port, '127.0.0.1');
    socket.write(`${head}\r\nAuthorization: Bearer ${TOKEN}\r\n\r\n`);
    assert.match(await text(socket), /^HTTP\/1\.1 403 /, head);
  }
});

test('without a session GET and DELETE are 405: there is no stream and nothing to end', async (t) => {
  const { port } = await serve(t);
  for (const method of ['GET', 'DELETE', 'PUT', 'OPTIONS']) {
    const { status, headers } = await raw(port, { method, headers: { ...AUTHORIZED, accept: 'text/event-stream' } });
    assert.deepEqual({ status, allow: headers.allow }, { status: 405, allow: 'POST' }, method);
  }
  assert.equal((await raw(port, { path: '/other', headers: AUTHORIZED })).status, 404);
  assert.equal((await raw(port, { path: '/mcp?x=1', headers: AUTHORIZED })).status, 200);
});

test('what is no MCP message is answered by its own status', async (t) => {
  const { port, defects } = await serve(t);
  const status = async (what: Raw): Promise<number> => (await raw(port, { ...what, headers: { ...AUTHORIZED, ...what.headers } })).status;
  assert.equal(await status({ body: 'this is no JSON' }), 400);
  assert.equal(await status({ body: '' }), 400);
  assert.equal(await status({ body: 'null' }), 400);
  assert.equal(await status({ body: '{"id":1}' }), 400);
  assert.equal(await status({ headers: { 'content-type': 'text/plain' } }), 415);
  assert.equal(await status({ headers: { accept: 'text/html' } }), 406);
  assert.equal(await status({ headers: { 'mcp-protocol-version': '1999-01-01' } }), 400);
  assert.equal(await status({ body: JSON.stringify({ jsonrpc: '2.0', method: 'notifications/initialized' }) }), 202);
  assert.deepEqual(defects, []);
});

test('a body above the limit is 413, whether it says so or not; one below is read', async (t) => {
  const { port } = await serve(t);
  const filled = (size: number): string => JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'ping', params: { _meta: { x: 'x'.repeat(size) } } });
  assert.equal((await raw(port, { headers: AUTHORIZED, body: filled(4 * 1024 * 1024) })).status, 413);
  assert.equal((await raw(port, { headers: { ...AUTHORIZED, 'transfer-encoding': 'chunked' }, body: filled(5 * 1024 * 1024) })).status, 413);
  assert.equal((await raw(port, { headers: AUTHORIZED, body: filled(3 * 1024 * 1024) })).status, 200);
});

test('a caller that goes away cancels its call, and the end of the server cancels all', { timeout: 20_000 }, async (t) => {
  const signals: AbortSignal[] = [];
  let asked = Promise.withResolvers<void>();
  const { port, stop, defects } = await serve(t, {
    invoke: async (_command, _params, signal) => {
      signals.push(signal);
      asked.resolve();
      await new Promise((_, reject) => signal.addEventListener('abort', () => reject(new ClawError('CANCELLED', 'cancelled')), { once: true }));
    },
  });
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'service_list' } });
  const leaving = request({ host: '127.0.0.1', port, method: 'POST', path: '/mcp', headers: { ...USUAL, ...AUTHORIZED } });
  leaving.on('error', () => undefined);
  leaving.end(body);
  await asked.promise;
  const [first] = signals;
  assert.ok(first !== undefined && !first.aborted);
  leaving.destroy();
  await new Promise((resolve) => (first.aborted ? resolve(undefined) : first.addEventListener('abort', resolve, { once: true })));

  asked = Promise.withResolvers();
  const waiting = raw(port, { headers: AUTHORIZED, body }).catch((error: unknown) => error);
  await asked.promise;
  await stop();
  await waiting;
  assert.equal(signals[1]?.aborted, true);
  assert.deepEqual(defects, []);
});

test('half a request is no defect, and the next one is answered', async (t) => {
  const { port, defects } = await serve(t);
  const socket = connect(port, '127.0.0.1');
  socket.write(`POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${TOKEN}\r\nContent-Length: 100\r\n\r\n{"json`);
  await new Promise((resolve) => setTimeout(resolve, 50));
  socket.destroy();
  assert.equal((await raw(port, { headers: AUTHORIZED })).status, 200);
  assert.deepEqual(defects, []);
});

test('a taken port is told, with what to do', async (t) => {
  const { port } = await serve(t);
  await assert.rejects(listenOnLoopback({ port, routes: [], onDefect: () => assert.fail() }), (error) => {
    assert.ok(error instanceof ClawError);
    assert.equal(error.code, 'CONFIG_INVALID');
    assert.match(`${error.message} ${error.hint ?? ''}`, new RegExp(`port ${port} of 127\\.0\\.0\\.1 is taken .*--port`));
    return true;
  });
});
