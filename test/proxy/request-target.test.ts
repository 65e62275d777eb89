/** Which request targets are read, how, and which are refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { parseRequestTarget, routingHost } from '../../src/proxy/request-target.ts';

const READ: readonly (readonly [target: string, path: string, query?: string])[] = [
  ['/', '/'],
  ['/a/b', '/a/b'],
  ['/a?x=/../%00', '/a', '?x=/../%00'],
  ['/a/./b', '/a/b'],
  ['/a/../b', '/b'],
  ['/a/%2e%2E/b', '/b'],
  ['/a/.%2e/b?q', '/b', '?q'],
  ['/a/b/..', '/a/'],
  ['/a/b/.', '/a/b/'],
  ['/%61pi', '/api'],
  ['/%7Euser', '/~user'],
  ['/a%20b', '/a%20b'],
  ['/%252e%252e/x', '/%252e%252e/x'],
  ['/.well-known/x', '/.well-known/x'],
  ['/a//b', '/a//b'],
  ['http://a.test', '/'],
  ['HTTP://a.test:80?x', '/', '?x'],
  ['https://a.test/x/../y', '/y'],
];

for (const [target, path, query = ''] of READ) {
  test(`${target} is read as ${path}${query}`, () => {
    const read = parseRequestTarget('GET', target);
    assert.ok(read?.kind === 'resource');
    assert.deepEqual([read.path, read.query], [path, query]);
  });
}

const REFUSED = [
  '', '*', 'a', 'a.test:80', 'ftp://a.test/', 'http://', 'http:///x', '/..', '/../a', '/a/../../b', '/a\\b', '/a%5cb', '/a%5C..%5Cb', '/a%00', '/%0a', '/a%7f', '/a%',
  '/a%2', '/a%zz', '/a#b', '/a?b#c', '/a b', '/a\tb', '/\u00e9', '/a/..%2fb', '/a/%2e%2e%2fb', '/a/..;/b', '/a/.;x/b', '/a%2f..%2fb', '/a/..%3bx/b',
];

for (const target of REFUSED) {
  test(`${JSON.stringify(target)} is refused`, () => assert.equal(parseRequestTarget('GET', target), undefined));
}

test('only OPTIONS may ask for *', () => {
  assert.deepEqual(parseRequestTarget('OPTIONS', '*'), { kind: 'server' });
  assert.equal(parseRequestTarget('GET', '*'), undefined);
});

test('another possible reading is told', () => {
  assert.equal(loose('/admin%2fx'), '/admin/x');
  assert.equal(loose('/%40scope%2Fname'), '/@scope/name');
  assert.equal(loose('//admin'), '/admin');
  assert.equal(loose('/a//admin'), '/a/admin');
  assert.equal(loose('/a/b'), undefined);
});

test('reading twice changes nothing, and no dot segment survives', () => {
  const piece = fc.constantFrom('a', '.', '..', '%2e', '%2E%2e', '%2f', '%41', '%25', ';', '@', '', '%40', 'b.c');
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 8 }), fc.array(fc.constantFrom('/', ''), { minLength: 8, maxLength: 8 }), (pieces, separators) => {
      const target = `/${pieces.map((text, index) => text + (separators[index] ?? '')).join('')}`;
      const once = parseRequestTarget('GET', target);
      if (once?.kind !== 'resource') return;
      assert.ok(!once.path.split('/').some((part) => part === '.' || part === '..'));
      const twice = parseRequestTarget('GET', once.path);
      assert.ok(twice?.kind === 'resource');
      assert.equal(twice.path, once.path);
    }),
    { numRuns: 3_000 },
  );
});

test('hosts are compared in lower case without port and trailing dot', () => {
  assert.equal(routingHost('A.Test.:8443'), 'a.test');
  assert.equal(routingHost('a.test:'), 'a.test');
  assert.equal(routingHost('my_host'), 'my_host');
  assert.equal(routingHost('[::1]:80'), '[::1]');
  for (const bad of ['', ':80', '.', 'a..b', '.a', 'a b', 'a/b', 'a@b', 'u:p@h', 'a:x', 'a:123456', 'a,b', 'a%41', '"a"', 'a\u0000']) {
    assert.equal(routingHost(bad), undefined, bad);
  }
});

function loose(target: string): string | undefined {
  const read = parseRequestTarget('GET', target);
  return read?.kind === 'resource' ? read.loosePath : undefined;
}
