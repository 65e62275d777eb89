/** What reaches the backend and what comes back, field by field, as bytes on both sides of the real process. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import type { Socket } from 'node:net';
import { dial, exchange, rawRequest, rule, startProxy, startRawBackend, statusOf, targetOf, type Backend, type TestProxy } from './harness.ts';

let proxy: TestProxy;
let trusting: TestProxy;
let backend: Backend;
/** What the backend received on its newest connection, and what it answers to a header. */
let received = '';
let respond: (socket: Socket, text: string) => void;

before(async () => {
  backend = await startRawBackend((socket) => {
    let text = '';
    socket.setEncoding('latin1').on('data', (chunk: string) => {
      text += chunk;
      received = text;
      respond(socket, text);
    });
  });
  proxy = await startProxy({ listenPath: true });
  trusting = await startProxy({ trustedProxies: ['127.0.0.0/8'] });
  await proxy.setRoutes(rule('a.test', [backend.target]));
  await trusting.setRoutes(rule('a.test', [backend.target]));
});

after(async () => {
  await proxy.stop();
  await trusting.stop();
  await backend.close();
});

/** Answers each message once it is complete as the test sees it, and closes. */
function answerWith(bytes: string | Buffer, complete: (text: string) => boolean = (text) => text.includes('\r\n\r\n')): void {
  let answered = '';
  received = '';
  respond = (socket, text) => {
    if (answered === text || !complete(text)) return;
    answered = text;
    socket.end(bytes);
  };
}

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

function fieldsOf(message: string): string[] {
  return (message.split('\r\n\r\n')[0] ?? '').split('\r\n').slice(1);
}

test('end-to-end fields pass with their case, order and repetition; connection fields end at the proxy', async () => {
  answerWith(OK);
  await exchange(proxy.port, [
    'GET /p?q=1 HTTP/1.1', 'Host: A.Test:80', 'X-One: 1', 'Cookie: a=1', 'Connection: close, X-Secret, host', 'X-Secret: s', 'Keep-Alive: timeout=5', 'Proxy-Connection: keep-alive',
    'Proxy-Authorization: Basic x', 'TE: trailers, deflate', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABk', 'Trailer: X-T', 'X-ONE: 2', 'traceparent: 00-1-2-3', '', '',
  ].join('\r\n'));
  assert.match(received, /^GET \/p\?q=1 HTTP\/1\.1\r\n/);
  const fields = fieldsOf(received);
  assert.deepEqual(fields.filter((field) => /^(?:x-one|cookie|traceparent|te|host)/i.test(field)), ['host: A.Test:80', 'X-One: 1', 'Cookie: a=1', 'X-ONE: 2', 'traceparent: 00-1-2-3', 'TE: trailers']);
  assert.doesNotMatch(received, /x-secret|upgrade|http2-settings|proxy-|timeout=5|trailer:|h2c|content-length|transfer-encoding/i);
});

test('forwarding fields of a stranger are replaced by ours', async () => {
  answerWith(OK);
  await exchange(proxy.port, rawRequest('a.test:8443', 'GET / HTTP/1.1', [
    'X-Forwarded-For: 6.6.6.6', 'X-Forwarded-Host: evil', 'X-Forwarded-Proto: https', 'X-Forwarded-Port: 1', 'X_Forwarded_For: 6.6.6.6', 'X-Real-IP: 6.6.6.6', 'Forwarded: for=6.6.6.6',
  ]));
  assert.doesNotMatch(received, /6\.6\.6\.6|evil|port: 1/i);
  const fields = fieldsOf(received);
  assert.ok(fields.includes('X-Forwarded-For: 127.0.0.1'));
  assert.ok(fields.includes('X-Forwarded-Host: a.test:8443'));
  assert.ok(fields.includes('X-Forwarded-Proto: http'));
  assert.ok(fields.includes('Forwarded: for=127.0.0.1;host="a.test:8443";proto=http'));
  assert.match(received, /\r\nVia: 1\.1 clawnode-[0-9a-f]{16}\r\n/);
});

test('a trusted proxy is believed and we are added behind it', async () => {
  answerWith(OK);
  await exchange(trusting.port, rawRequest('a.test', 'GET / HTTP/1.1', [
    'X-Forwarded-For: 9.9.9.9', 'X-Forwarded-For: 8.8.8.8', 'X-Forwarded-Host: public.test', 'X-Forwarded-Proto: https', 'Forwarded: for=9.9.9.9', 'Via: 1.1 front',
  ]));
  const fields = fieldsOf(received);
  assert.ok(fields.includes('X-Forwarded-For: 9.9.9.9, 8.8.8.8, 127.0.0.1'), received);
  assert.ok(fields.includes('X-Forwarded-Host: public.test'));
  assert.ok(fields.includes('X-Forwarded-Proto: https'));
  assert.ok(fields.includes('Forwarded: for=9.9.9.9, for=127.0.0.1;host="a.test";proto=http'));
  assert.match(received, /\r\nVia: 1\.1 front, 1\.1 clawnode-/);
});

test('a naming of our own fields in Connection does not remove them', async () => {
  answerWith(OK);
  await exchange(proxy.port, 'POST / HTTP/1.1\r\nHost: a.test\r\nConnection: close, X-Forwarded-For, Content-Length, Via\r\nContent-Length: 2\r\n\r\nhi');
  assert.match(received, /X-Forwarded-For: 127\.0\.0\.1/);
  assert.match(received, /content-length: 2\r\n\r\nhi$/i);
});

test('the unix socket serves too; its clients have no address', async () => {
  answerWith(OK);
  const text = await exchange(`${proxy.directory}/http.sock`, rawRequest('a.test'));
  assert.equal(statusOf(text), 200);
  assert.match(received, /Forwarded: for=unknown;/);
  assert.doesNotMatch(received, /X-Forwarded-For/);
});

test('two proxies that point at each other end with 508', async () => {
  const looped = await startProxy();
  const second = await startProxy();
  await looped.setRoutes(rule('a.test', [targetOf(second.port)]));
  await second.setRoutes(rule('a.test', [targetOf(looped.port)]));
  assert.equal(statusOf(await exchange(looped.port, rawRequest('a.test'))), 508);
  await looped.stop();
  await second.stop();
});

test('chunks go upstream as chunks whatever the method, and framing stays exact', async () => {
  for (const method of ['POST', 'DELETE', 'OPTIONS', 'GET', 'PATCH']) {
    answerWith(OK, (text) => text.endsWith('0\r\n\r\n'));
    const text = await exchange(proxy.port, rawRequest('a.test', `${method} / HTTP/1.1`, ['Transfer-Encoding: chunked'], '5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nX-T: 1\r\n\r\n'));
    assert.equal(statusOf(text), 200, method);
    assert.match(received, /\r\ntransfer-encoding: chunked\r\n/i);
    assert.doesNotMatch(received, /content-length|ext=1|X-T/i);
    const body = received.slice(received.indexOf('\r\n\r\n') + 4);
    assert.equal(body.replaceAll(/[0-9a-f]+\r\n([^\r]*)\r\n/g, '$1').trim(), 'hello world');
  }
});

test('connection fields of an answer end at the proxy; cookies stay apart and compressed bytes as they are', async () => {
  const packed = gzipSync('packed'.repeat(100));
  answerWith(Buffer.concat([
    Buffer.from(`HTTP/1.1 200 Very Fine\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Encoding: gzip\r\nContent-Length: ${packed.length}\r\nConnection: X-Inner\r\nX-Inner: 1\r\nKeep-Alive: timeout=1\r\nProxy-Authenticate: Basic\r\n\r\n`),
    packed,
  ]));
  const text = await exchange(proxy.port, rawRequest('a.test', 'GET / HTTP/1.1', ['Accept-Encoding: gzip']));
  assert.match(text, /^HTTP\/1\.1 200 Very Fine\r\n/);
  assert.deepEqual(fieldsOf(text).filter((field) => /^set-cookie/i.test(field)), ['Set-Cookie: a=1', 'Set-Cookie: b=2']);
  assert.doesNotMatch(text, /x-inner|timeout=1|proxy-auth/i);
  assert.equal(text.slice(text.indexOf('\r\n\r\n') + 4), packed.toString('latin1'));
});

test('HEAD, 204 and 304 carry no body and keep their fields', async () => {
  for (const [line, upstream] of [
    ['HEAD / HTTP/1.1', 'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: "x"\r\n\r\n'],
    ['GET / HTTP/1.1', 'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n'],
    ['GET / HTTP/1.1', 'HTTP/1.1 204 No Content\r\nETag: "x"\r\n\r\n'],
  ] as const) {
    answerWith(upstream);
    const text = await exchange(proxy.port, rawRequest('a.test', line));
    assert.match(text, /ETag: "x"/);
    assert.ok(text.endsWith('\r\n\r\n'), text);
    assert.doesNotMatch(text, /transfer-encoding/i);
    assert.equal(/Content-Length: 1000/.test(text), line.startsWith('HEAD'));
  }
});

test('trailers and early hints pass', async () => {
  answerWith('HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-Hint: 1\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\nSet-Cookie: late=1\r\n\r\n');
  const text = await exchange(proxy.port, rawRequest('a.test', 'GET / HTTP/1.1', ['TE: trailers']));
  assert.match(text, /^HTTP\/1\.1 103 Early Hints\r\nLink: <\/a\.css>; rel=preload\r\n[^]*?\r\n\r\nHTTP\/1\.1 200 OK\r\n/i);
  assert.match(text, /\r\nTrailer: X-Sum\r\n/);
  assert.match(text, /\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n$/);
});

test('an HTTP/1.0 client gets neither chunks nor interim answers', async () => {
  answerWith('HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n');
  const text = await exchange(proxy.port, 'GET / HTTP/1.0\r\nHost: a.test\r\n\r\n');
  assert.match(text, /^HTTP\/1\.1 200 OK\r\n/);
  assert.doesNotMatch(text, /chunked|trailer|103/i);
  assert.ok(text.endsWith('\r\n\r\nok'));
});

test('100 is sent when there is somebody to send the body to, and not before a refusal', async () => {
  answerWith(OK, (text) => text.endsWith('body'));
  const socket = dial(proxy.port).setEncoding('latin1');
  let text = '';
  const closed = new Promise<void>((resolve) => socket.on('close', () => resolve()));
  socket.on('data', (chunk: string) => {
    if (text === '' && chunk === 'HTTP/1.1 100 Continue\r\n\r\n') socket.write('body');
    text += chunk;
  });
  socket.write('PUT / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n');
  await closed;
  assert.match(text, /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK/);
  assert.doesNotMatch(received, /expect/i);
  const refused = await exchange(proxy.port, 'PUT / HTTP/1.1\r\nHost: nobody.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n');
  assert.match(refused, /^HTTP\/1\.1 404 [^]*Connection: close/);
});

test('OPTIONS * is answered here, an Upgrade is ignored', async () => {
  received = '';
  assert.equal(statusOf(await exchange(proxy.port, rawRequest('a.test', 'OPTIONS * HTTP/1.1'))), 204);
  assert.equal(received, '');
  answerWith(OK);
  const text = await exchange(proxy.port, 'GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n\r\n');
  assert.equal(statusOf(text), 200);
  assert.doesNotMatch(received, /upgrade/i);
});

test('events are passed on one by one, the header first', async () => {
  const steps: string[] = [];
  respond = (socket) => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n');
    events = socket;
  };
  let events: Socket | undefined;
  const socket = dial(proxy.port).setEncoding('latin1');
  const next = (): Promise<string> => new Promise((resolve) => socket.once('data', resolve));
  socket.write('GET / HTTP/1.1\r\nHost: a.test\r\n\r\n');
  steps.push(await next());
  for (const event of ['data: 1\n\n', 'data: 2\n\n']) {
    events?.write(event);
    steps.push(await next());
  }
  assert.match(steps[0] ?? '', /^HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\n$/);
  assert.match(steps[1] ?? '', /data: 1\n\n/);
  assert.match(steps[2] ?? '', /data: 2\n\n/);
  socket.destroy();
});

test('pipelined requests are answered in their order', async () => {
  respond = (socket, text) => {
    const path = /GET (\/\d)[^]*$/.exec(text.slice(text.lastIndexOf('GET ')))?.[1] ?? '';
    setTimeout(() => socket.end(`HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n${path}`), path === '/1' ? 100 : 0);
  };
  const text = await exchange(proxy.port, ['', '', 'Connection: close\r\n'].map((field, index) => `GET /${index + 1} HTTP/1.1\r\nHost: a.test\r\n${field}\r\n`).join(''));
  assert.deepEqual(text.match(/\/\d(?=HTTP|$)/g), ['/1', '/2', '/3']);
});

test('an answer that breaks HTTP becomes 502', async () => {
  for (const broken of ['nonsense\r\n\r\n', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx', 'HTTP/1.1 200 OK\r\nX: a\nY: b\r\n\r\n', `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`, 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n']) {
    answerWith(broken);
    const text = await exchange(proxy.port, rawRequest('a.test'));
    assert.equal(statusOf(text), 502, `${broken.slice(0, 80)} gave ${text.slice(0, 200)}`);
  }
});
