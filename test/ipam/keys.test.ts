/** Keys and records of allocations: their exact form, and that one range's keys never fall under another's prefix. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { allocationKey, allocationPrefix, allocationRecord, cursorKey, cursorRecord } from '../../src/ipam/keys.ts';
import { ipv4 } from '../../src/model/address.ts';

const ip = ipv4.parse('10.200.7.9');

test('keys have their documented form', () => {
  assert.equal(allocationKey({ kind: 'clusterIp' }, ip), 'ipam/clusterip/10.200.7.9');
  assert.equal(allocationKey({ kind: 'workload', node: 'n1' }, ip), 'ipam/workload/n1/10.200.7.9');
  assert.equal(cursorKey({ kind: 'clusterIp' }), 'ipam/cursor/clusterip');
  assert.equal(cursorKey({ kind: 'workload', node: 'n1' }), 'ipam/cursor/workload/n1');
});

test('no key of one node lies under the prefix of another, and no cursor under any', () => {
  const node = fc.string({ minLength: 1, maxLength: 4, unit: fc.constantFrom('a', 'b', '/', '%', '.') });
  fc.assert(
    fc.property(node, node, (a, b) => {
      const prefix = allocationPrefix({ kind: 'workload', node: a });
      assert.equal(allocationKey({ kind: 'workload', node: b }, ip).startsWith(prefix), a === b);
      assert.ok(!cursorKey({ kind: 'workload', node: b }).startsWith(prefix));
      assert.ok(!cursorKey({ kind: 'workload', node: b }).startsWith(allocationPrefix({ kind: 'clusterIp' })));
    }),
  );
});

test('records of another form are refused', () => {
  const releasedAt = '2026-01-02T03:04:05.678Z';
  assert.deepEqual(allocationRecord.parse({ v: 1, releasedAt }), { v: 1, releasedAt });
  for (const bad of [{ v: 2, owner: 'x' }, { v: 1 }, { v: 1, owner: '' }, { v: 1, owner: 'x', releasedAt }, { v: 1, releasedAt: 'now' }]) {
    assert.equal(allocationRecord.safeParse(bad).success, false, JSON.stringify(bad));
  }
  assert.equal(cursorRecord.safeParse({ v: 1, last: '10.0.0.256' }).success, false);
  assert.deepEqual(cursorRecord.parse({ v: 1, last: '10.0.0.1' }), { v: 1, last: '10.0.0.1' });
  assert.deepEqual(allocationRecord.parse({ v: 1, owner: 'services/default/web' }), { v: 1, owner: 'services/default/web' });
});
