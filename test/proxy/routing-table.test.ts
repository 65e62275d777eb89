/** The routing table against a scan over all rules, and its cost against the number of rules. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { buildRoutingTable, type RoutingRule } from '../../src/proxy/routing-table.ts';

const segment = fc.constantFrom('a', 'ab', 'api', 'apix', 'v1', '');
const name = fc.constantFrom('a.test', 'b.test', 'x.a.test', 'y.x.a.test', 'test', 'a');
const path = fc.array(segment, { maxLength: 4 }).map((segments) => `/${segments.join('/')}`);
const prefix = fc.array(segment.filter((text) => text !== ''), { maxLength: 3 }).map((segments) => `/${segments.join('/')}`);
const rules = fc.array(fc.record({ host: fc.oneof(name, name.map((text) => `*.${text}`)), path: prefix }), { maxLength: 12 });

test('a lookup finds what a scan over all rules finds', () => {
  fc.assert(
    fc.property(rules, name, path, (list, host, requested) => {
      const numbered = list.map((entry, index) => ({ ...entry, value: index }));
      assert.equal(buildRoutingTable(numbered).lookup(host, requested), scan(numbered, host, requested));
    }),
    { numRuns: 2_000 },
  );
});

test('prefixes match whole segments, the longest wins, an exact host beats a wildcard', () => {
  const table = buildRoutingTable([
    { host: 'a.test', path: '/', value: 'root' },
    { host: 'a.test', path: '/api', value: 'api' },
    { host: '*.test', path: '/', value: 'wild' },
    { host: '*.test', path: '/only', value: 'wild-only' },
    { host: 'b.test', path: '/api', value: 'b-api' },
  ]);
  assert.equal(table.lookup('a.test', '/api'), 'api');
  assert.equal(table.lookup('a.test', '/api/'), 'api');
  assert.equal(table.lookup('a.test', '/api/x/y'), 'api');
  assert.equal(table.lookup('a.test', '/apix'), 'root');
  assert.equal(table.lookup('a.test', '/only'), 'root');
  assert.equal(table.lookup('c.test', '/only/x'), 'wild-only');
  assert.equal(table.lookup('b.test', '/other'), 'wild');
  assert.equal(table.lookup('d.c.test', '/'), undefined);
  assert.equal(table.lookup('test', '/'), undefined);
});

test('the first of two equal rules counts', () => {
  const table = buildRoutingTable([{ host: 'a.test', path: '/', value: 1 }, { host: 'a.test', path: '/', value: 2 }]);
  assert.equal(table.lookup('a.test', '/'), 1);
  assert.equal(table.size, 1);
});

test('100,000 rules cost a lookup no more than ten times what ten rules cost', (context) => {
  const small = nanosecondsPerLookup(10);
  const large = nanosecondsPerLookup(100_000);
  context.diagnostic(`lookup: ${Math.round(small)} ns with 10 rules, ${Math.round(large)} ns with 100,000`);
  assert.ok(large < small * 10 + 2_000, `${large} ns against ${small} ns`);
});

test('a path of thousands of segments costs as little as its rules are long', () => {
  const table = buildRoutingTable([{ host: 'a.test', path: '/', value: 'root' }, { host: 'a.test', path: '/a/a', value: 'deep' }]);
  const long = '/a'.repeat(8_000);
  const startedAt = performance.now();
  for (let round = 0; round < 1_000; round += 1) assert.equal(table.lookup('a.test', long), 'deep');
  assert.ok(performance.now() - startedAt < 1_000);
});

function nanosecondsPerLookup(count: number): number {
  const table = buildRoutingTable(Array.from({ length: count }, (_, index) => ({ host: `h${index % 1_000}.test`, path: `/p${index}/api`, value: index })));
  const hosts = Array.from({ length: 1_000 }, (_, index) => `h${(index * 7) % Math.min(count, 1_000)}.test`);
  let found = 0;
  for (let round = 0; round < 20; round += 1) for (const host of hosts) found += table.lookup(host, '/p1/api/x/y/z') ?? 0;
  const startedAt = performance.now();
  for (let round = 0; round < 100; round += 1) for (const host of hosts) found += table.lookup(host, '/p1/api/x/y/z') ?? 0;
  assert.ok(found >= 0);
  return ((performance.now() - startedAt) * 1e6) / (100 * hosts.length);
}

/** The definition, rule by rule. */
function scan(list: readonly RoutingRule<number>[], host: string, requested: string): number | undefined {
  const matching = list.filter((entry) => hostMatches(entry.host, host) && (entry.path === '/' || requested === entry.path || requested.startsWith(`${entry.path}/`)));
  const exact = matching.filter((entry) => entry.host === host);
  const candidates = exact.length > 0 ? exact : matching;
  const longest = Math.max(...candidates.map((entry) => entry.path.length));
  return candidates.find((entry) => entry.path.length === longest)?.value;
}

function hostMatches(pattern: string, host: string): boolean {
  if (!pattern.startsWith('*.')) return pattern === host;
  const labels = host.split('.');
  return labels.length > 1 && labels.slice(1).join('.') === pattern.slice(2);
}
