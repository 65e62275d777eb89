/** What a client may not send: each case as bytes on a socket of the real process, and nothing of it reaches the backend. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { exchange, rawRequest, rule, startBackend, startProxy, statusOf, type Backend, type TestProxy } from './harness.ts';

let proxy: TestProxy;
let backend: Backend;
let other: Backend;
let reached: string[] = [];

before(async () => {
  backend = await startBackend((request, response) => {
    reached.push(request.url ?? '');
    request.resume();
    response.end('backend');
  });
  other = await startBackend((_request, response) => response.end('admin'));
  proxy = await startProxy();
  await proxy.setRoutes(rule('a.test', [backend.target]), rule('a.test', [other.target], '/admin'), rule('empty.test', []));
});

after(async () => {
  await proxy.stop();
  await backend.close();
  await other.close();
});

const post = (fields: readonly string[], body = ''): string => rawRequest('a.test', 'POST / HTTP/1.1', fields, body);

const REFUSED: readonly (readonly [what: string, status: number, bytes: string])[] = [
  ['Content-Length beside Transfer-Encoding', 400, post(['Content-Length: 5', 'Transfer-Encoding: chunked'], '0\r\n\r\n')],
  ['Transfer-Encoding beside Content-Length', 400, post(['Transfer-Encoding: chunked', 'Content-Length: 5'], '0\r\n\r\n')],
  ['two Content-Length fields', 400, post(['Content-Length: 1', 'Content-Length: 1'], 'a')],
  ['a list of lengths', 400, post(['Content-Length: 1, 1'], 'a')],
  ['a signed length', 400, post(['Content-Length: +1'], 'a')],
  ['a negative length', 400, post(['Content-Length: -1'], 'a')],
  ['two Host fields', 400, 'GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n'],
  ['two equal Host fields', 400, 'GET / HTTP/1.1\r\nHost: a.test\r\nhOST: a.test\r\n\r\n'],
  ['no Host', 400, 'GET / HTTP/1.1\r\n\r\n'],
  ['an empty Host', 400, 'GET / HTTP/1.1\r\nHost:\r\n\r\n'],
  ['a Host with a path', 400, 'GET / HTTP/1.1\r\nHost: a.test/x\r\n\r\n'],
  ['a Host with user information', 400, 'GET / HTTP/1.1\r\nHost: u@a.test\r\n\r\n'],
  ['an absolute target with user information', 400, 'GET http://u:p@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n'],
  ['a chunk size that is no number', 400, post(['Transfer-Encoding: chunked'], 'zz\r\nx\r\n0\r\n\r\n')],
  ['a chunk size beyond 64 bits', 400, post(['Transfer-Encoding: chunked'], 'fffffffffffffffff\r\nx\r\n0\r\n\r\n')],
  ['a chunk longer than its size', 400, post(['Transfer-Encoding: chunked'], '1\r\nxx\r\n0\r\n\r\n')],
  ['chunks with bare line feeds', 400, post(['Transfer-Encoding: chunked'], '1\nx\n0\n\n')],
  ['a bare line feed in a chunk extension', 400, post(['Transfer-Encoding: chunked'], '1;a\nb\r\nx\r\n0\r\n\r\n')],
  ['Transfer-Encoding in HTTP/1.0', 400, 'POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
  ['another transfer coding', 501, post(['Transfer-Encoding: gzip, chunked'], '0\r\n\r\n')],
  ['an obscured transfer coding', 501, post(['Transfer-Encoding: xchunked'], '0\r\n\r\n')],
  ['two Transfer-Encoding fields', 400, post(['Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'], '0\r\n\r\n')],
  ['a space before the colon', 400, post(['Transfer-Encoding : chunked'], '0\r\n\r\n')],
  ['a folded field', 400, rawRequest('a.test', 'GET / HTTP/1.1', ['X-A: 1', ' 2'])],
  ['bare line feeds', 400, 'GET / HTTP/1.1\nHost: a.test\n\n'],
  ['one bare line feed', 400, 'GET / HTTP/1.1\r\nHost: a.test\nX-A: 1\r\n\r\n'],
  ['a bare carriage return in a value', 400, rawRequest('a.test', 'GET / HTTP/1.1', ['X-A: 1\rX-B: 2'])],
  ['NUL in a value', 400, rawRequest('a.test', 'GET / HTTP/1.1', ['X-A: 1\u00002'])],
  ['NUL in the target', 400, rawRequest('a.test', 'GET /\u0000 HTTP/1.1')],
  ['an escaped NUL', 400, rawRequest('a.test', 'GET /a%00 HTTP/1.1')],
  ['a backslash', 400, rawRequest('a.test', 'GET /a\\..\\b HTTP/1.1')],
  ['a path above the root', 400, rawRequest('a.test', 'GET /../etc/passwd HTTP/1.1')],
  ['an escaped slash behind a dot segment', 400, rawRequest('a.test', 'GET /a/..%2fadmin HTTP/1.1')],
  ['an escaped slash that would lead to another rule', 400, rawRequest('a.test', 'GET /admin%2fx HTTP/1.1')],
  ['an empty segment that hides a rule', 400, rawRequest('a.test', 'GET //admin HTTP/1.1')],
  ['an unknown method', 400, rawRequest('a.test', 'FOO / HTTP/1.1')],
  ['no HTTP at all', 400, 'hello\r\n\r\n'],
  ['the preface of HTTP/2', 400, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ['HTTP/2.0 as a version', 505, 'GET / HTTP/2.0\r\nHost: a.test\r\n\r\n'],
  ['HTTP/0.9 as a version', 505, 'GET / HTTP/0.9\r\nHost: a.test\r\n\r\n'],
  ['TRACE', 405, rawRequest('a.test', 'TRACE / HTTP/1.1')],
  ['CONNECT', 405, 'CONNECT a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n'],
  ['a host without a rule', 404, rawRequest('nobody.test', 'GET /secret-path HTTP/1.1', ['X-A: secret-value'])],
  ['HTTP/1.0 without Host', 404, 'GET / HTTP/1.0\r\n\r\n'],
  ['a rule without endpoints', 503, rawRequest('empty.test', 'GET /secret-path HTTP/1.1')],
];

for (const [what, status, bytes] of REFUSED) {
  test(`${what}: ${status}`, async () => {
    reached = [];
    const closes = status !== 405 || bytes.startsWith('CONNECT') || bytes.includes('Connection: close');
    const text = await exchange(proxy.port, bytes, { until: () => !closes });
    assert.equal(statusOf(text), status, text);
    const [, body = ''] = text.split('\r\n\r\n');
    assert.match(body, /^[ -~]{1,30}\n$/);
    assert.doesNotMatch(text, /secret|nobody/);
    assert.doesNotMatch(text, /backend|admin/);
  });
}

test('the same path is routed and forwarded', async () => {
  for (const [sent, expected] of [['/x/../y', '/y'], ['/%61/./b?q=%2e%2e', '/a/b?q=%2e%2e'], ['/s%2ft', '/s%2ft'], ['http://a.test/z', '/z']] as const) {
    reached = [];
    await exchange(proxy.port, rawRequest('a.test', `GET ${sent} HTTP/1.1`));
    assert.deepEqual(reached, [expected]);
  }
  assert.match(await exchange(proxy.port, rawRequest('a.test', 'GET /x/%2e%2e/admin/y HTTP/1.1')), /admin$/);
});

test('a request hidden behind a refused one is not served', async () => {
  reached = [];
  const text = await exchange(proxy.port, `POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a.test\r\n\r\n`);
  assert.equal(text.match(/HTTP\/1\.1/g)?.length, 1);
  assert.deepEqual(reached, []);
});

test('garbage behind a running request never lands inside its answer', async () => {
  const text = await exchange(proxy.port, 'GET / HTTP/1.1\r\nHost: a.test\r\n\r\n\u0001\u0002garbage\r\n\r\n');
  assert.ok(text === '' || /^HTTP\/1\.1 (?:400|200)/.test(text), text);
});
