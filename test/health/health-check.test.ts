/** What a user may write as a health check, what it becomes, and what a wrong one is told. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { z } from 'zod';
import { healthCheck } from '../../src/model/health-check.ts';

const TIMING = { intervalMs: 5000, timeoutMs: 1000, failures: 3, successes: 1 };

test('defaults; the path only for http', () => {
  assert.deepEqual(healthCheck.parse({ type: 'tcp' }), { type: 'tcp', ...TIMING });
  assert.deepEqual(healthCheck.parse({ type: 'http' }), { type: 'http', path: '/', ...TIMING });
});

test('what is given stays, and a settled check parses to itself', () => {
  const check = { type: 'http', path: '/healthz?full=1&x=%20', intervalMs: 200, timeoutMs: 150, failures: 1, successes: 5 };
  assert.deepEqual(healthCheck.parse(check), check);
  for (const written of [{ type: 'tcp' }, { type: 'http' }, { type: 'http', intervalMs: 300 }]) {
    const settled = healthCheck.parse(written);
    assert.deepEqual(healthCheck.parse(settled), settled);
  }
});

test('an interval below a second shortens the default timeout with it', () => {
  assert.equal(healthCheck.parse({ type: 'tcp', intervalMs: 400 }).timeoutMs, 400);
  assert.equal(healthCheck.parse({ type: 'tcp', intervalMs: 400, timeoutMs: 400 }).timeoutMs, 400);
});

const refused: readonly (readonly [what: string, input: unknown, path: string, message: RegExp])[] = [
  ['no type', {}, 'type', /"tcp".*"http"/],
  ['another type', { type: 'grpc' }, 'type', /"tcp".*"http"/],
  ['a path for tcp', { type: 'tcp', path: '/' }, 'path', /"tcp" has no path/],
  ['a relative path', { type: 'http', path: 'healthz' }, 'path', /starts with "\/"/],
  ['a path with a blank', { type: 'http', path: '/a b' }, 'path', /no blank/],
  ['a path that smuggles a header', { type: 'http', path: '/ HTTP/1.1\r\nHost: x' }, 'path', /no blank/],
  ['a path that ends in a line feed', { type: 'http', path: '/a\n' }, 'path', /no blank/],
  ['a path with a fragment', { type: 'http', path: '/a#b' }, 'path', /no "#"/],
  ['a path beyond ASCII', { type: 'http', path: '/ä' }, 'path', /only ASCII/],
  ['a long path', { type: 'http', path: `/${'a'.repeat(1024)}` }, 'path', /at most 1024/],
  ['a short interval', { type: 'tcp', intervalMs: 99 }, 'intervalMs', /at least 100 ms/],
  ['a long interval', { type: 'tcp', intervalMs: 3_600_001 }, 'intervalMs', /at most 3600000 ms/],
  ['half a millisecond', { type: 'tcp', intervalMs: 100.5 }, 'intervalMs', /whole number/],
  ['a timeout as text', { type: 'tcp', timeoutMs: '1s' }, 'timeoutMs', /whole number of milliseconds/],
  ['no timeout', { type: 'tcp', timeoutMs: 0 }, 'timeoutMs', /at least 1 ms/],
  ['a timeout beyond the interval', { type: 'tcp', intervalMs: 500, timeoutMs: 501 }, 'timeoutMs', /at most intervalMs, which is 500/],
  ['a timeout beyond the default interval', { type: 'tcp', timeoutMs: 6000 }, 'timeoutMs', /at most intervalMs, which is 5000/],
  ['no failures', { type: 'tcp', failures: 0 }, 'failures', /at least 1/],
  ['many successes', { type: 'tcp', successes: 101 }, 'successes', /at most 100/],
  ['an unknown field', { type: 'tcp', interval: 5 }, '', /interval/],
];

for (const [what, input, path, message] of refused) {
  test(`${what} is refused with its path`, () => {
    const issue = healthCheck.safeParse(input).error?.issues[0];
    assert.ok(issue !== undefined, 'it was let pass');
    assert.equal(issue.path.join('.'), path);
    assert.match(issue.message, message);
  });
}

test('tools can show it: every field is in the schema of the arguments, and only the type must be given', () => {
  const { properties, required } = z.toJSONSchema(healthCheck, { io: 'input' });
  assert.deepEqual(Object.keys(properties ?? {}), ['type', 'path', 'intervalMs', 'timeoutMs', 'failures', 'successes']);
  assert.deepEqual(required, ['type']);
  assert.doesNotThrow(() => z.toJSONSchema(healthCheck, { io: 'output' }));
});
