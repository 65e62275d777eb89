/** The whole kernel state of small clusters, compared as text. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { endpointLookup } from '../../src/compile/endpoints.ts';
import { compileKernel } from '../../src/compile/kernel.ts';
import { cidr } from '../../src/model/address.ts';
import type { Desired, Observed } from '../../src/model/observed.ts';
import type { Node } from '../../src/model/node.ts';
import { aService, asText, aWorkload, desired, node, observed } from './state.ts';
import { assertGolden } from './golden.ts';

function compile(state: Desired, world: Observed, on: Node = node) {
  return compileKernel(on, state, endpointLookup(state, world));
}

const three = ['a', 'b', 'c'].map((name, index) => aWorkload({ name, id: `${index}000000${name}`, ip: `10.200.1.${index + 2}` }));

test('an empty node holds the skeleton: dispatch that drops, refusal of every VIP, masquerade to the outside', async () => {
  await assertGolden('empty', asText(compile(desired({}), observed([])).iptables));
});

test('three workloads behind one service', async () => {
  const state = desired({ services: [aService({ selector: { app: 'web' }, ports: [{ port: 80, protocol: 'tcp', targetPort: 8080 }] })], workloads: three });
  const kernel = compile(state, observed(three));
  await assertGolden('three-workloads', asText(kernel.iptables));
  assert.deepEqual([...(kernel.ipsets[0]?.members ?? [])], ['10.200.1.2,clawv0000000a', '10.200.1.3,clawv1000000b', '10.200.1.4,clawv2000000c']);
});

test('several ports, named targets, UDP, explicit endpoints, another range, exposed sources', async () => {
  const small: Node = { ...node, ranges: { ...node.ranges, clusterIp: cidr.parse('172.30.0.0/26') }, exposeTo: [cidr.parse('192.0.2.0/24')] };
  const named = aWorkload({ name: 'dns', labels: { app: 'dns' }, ports: [{ name: 'dns', port: 5353, protocol: 'udp' }] });
  const services = [
    aService({
      name: 'dns',
      selector: { app: 'dns' },
      clusterIp: '172.30.0.1',
      manyPorts: true,
      ports: [
        { name: 'dns', port: 53, protocol: 'udp', targetPort: 'dns' },
        { name: 'dns-tcp', port: 53, protocol: 'tcp', targetPort: 'dns' },
        { name: 'metrics', port: 9153, protocol: 'tcp' },
      ],
    }),
    aService({ name: 'db', clusterIp: '172.30.0.40', ports: [{ port: 5432, protocol: 'tcp' }], endpoints: [{ ip: '192.0.2.7' }, { ip: '192.0.2.8', port: 6432 }] }),
  ];
  await assertGolden('many-ports', asText(compile(desired({ services, workloads: [named] }), observed([named]), small).iptables));
});

test('the same state in any order gives the same bytes', () => {
  const services = Array.from({ length: 40 }, (_, index) => aService({ name: `s${index}`, selector: { app: 'web' }, clusterIp: `10.201.${index % 5}.${index + 1}` }));
  const inOrder = asText(compile(desired({ services, workloads: three }), observed(three)).iptables);
  fc.assert(
    fc.property(fc.shuffledSubarray(services, { minLength: 40 }), fc.shuffledSubarray(three, { minLength: 3 }), (shuffled, workloads) => {
      assert.equal(asText(compile(desired({ services: shuffled, workloads }), observed(workloads)).iptables), inOrder);
    }),
    { numRuns: 30 },
  );
});

test('no rule names a chain that is not there, no chain is unreachable, every name fits 28 bytes, no level has more than 16 children', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 65_534 }), { maxLength: 60 }), (offsets) => {
      const services = offsets.map((offset, index) => aService({ name: `s${index}`, selector: { app: 'web' }, clusterIp: `10.201.${offset >> 8}.${offset & 255}` }));
      const { iptables } = compile(desired({ services, workloads: three }), observed(three));
      for (const { chains, jumps } of Object.values(iptables)) {
        const targets = [...jumps.map(({ rule }) => rule), ...[...chains.values()].flat()].flatMap((rule) => rule.match(/(?<=-[jg] )CLAW-\S+/g) ?? []);
        assert.deepEqual(new Set(targets), new Set(chains.keys()));
        for (const [name, rules] of chains) {
          assert.ok(Buffer.byteLength(name) <= 28, name);
          if (name.startsWith('CLAW-VIP-') || name === 'CLAW-SERVICES') assert.ok(rules.length <= 17, name);
        }
      }
    }),
    { numRuns: 50 },
  );
});

test('rules of a service that did not change are the same array', () => {
  const state = desired({ services: [aService({ selector: { app: 'web' } })], workloads: three });
  const first = compile(state, observed(three)).iptables.nat.chains;
  const second = compile(state, observed(three)).iptables.nat.chains;
  const chain = [...first.keys()].find((name) => name.startsWith('CLAW-S-')) ?? '';
  assert.equal(first.get(chain), second.get(chain));
});

test('the same service with other endpoints gets other rules in the same chain', () => {
  const state = desired({ services: [aService({ selector: { app: 'web' } })], workloads: three });
  const before = compile(state, observed(three)).iptables.nat.chains;
  const after = compile(state, observed(three, { '0000000a': 'restarting' })).iptables.nat.chains;
  assert.deepEqual([...after.keys()], [...before.keys()]);
  const chain = [...after.keys()].find((name) => name.startsWith('CLAW-S-')) ?? '';
  assert.deepEqual([before.get(chain)?.length, after.get(chain)?.length], [3, 2]);
});

test('forwarding between foreign networks is dropped last where the agent turned it on; a range of everything needs no match', () => {
  const open: Node = { ...node, exposeTo: [cidr.parse('0.0.0.0/0')], dropForeignForwarding: true };
  const { filter } = compile(desired({}), observed([]), open).iptables;
  assert.deepEqual(filter.chains.get('CLAW-FOREIGN'), ['-m conntrack --ctstate NEW -j DROP']);
  assert.deepEqual(
    filter.jumps.filter(({ chain }) => chain === 'FORWARD').map(({ rule, place }) => [rule.split(' ').at(-1), place]),
    [
      ['CLAW-NETPOL', 'first'],
      ['CLAW-FOREIGN', 'last'],
    ],
  );
  assert.deepEqual(filter.chains.get('CLAW-OUTSIDE'), ['-j RETURN', '-j DROP']);
});
