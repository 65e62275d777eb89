/** Which addresses are never dialled. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cidr, ipv4 } from '../../src/model/address.ts';
import { createDialGuard } from '../../src/proxy/dial-guard.ts';

const guard = createDialGuard({ forbiddenRanges: [cidr.parse('10.201.0.0/16')], dialLoopback: false });

for (const address of ['0.0.0.0', '0.1.2.3', '127.0.0.1', '127.255.255.255', '169.254.0.1', '169.254.169.254', '224.0.0.1', '239.1.2.3', '240.0.0.1', '255.255.255.255', '10.201.0.1', '10.201.255.255', '100.100.100.200', '168.63.129.16']) {
  test(`${address} is never dialled, and the reason names it`, () => assert.ok(guard(ipv4.parse(address))?.startsWith(address)));
}

for (const address of ['10.200.1.2', '10.202.0.1', '126.255.255.255', '128.0.0.1', '169.253.255.255', '223.255.255.255', '1.1.1.1']) {
  test(`${address} may be dialled`, () => assert.equal(guard(ipv4.parse(address)), undefined));
}

test('only loopback is lifted for tests', () => {
  const lenient = createDialGuard({ forbiddenRanges: [], dialLoopback: true });
  assert.equal(lenient(ipv4.parse('127.0.0.1')), undefined);
  assert.notEqual(lenient(ipv4.parse('169.254.169.254')), undefined);
});
