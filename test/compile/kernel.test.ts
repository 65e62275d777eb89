/** The whole kernel state of small clusters, compared as text. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { endpointLookup } from '../../src/compile/endpoints.ts';
import { compileKernel, kernelCompiler } from '../../src/compile/kernel.ts';
import { cidr } from '../../src/model/address.ts';
import type { Desired, Observed } from '../../src/model/observed.ts';
import type { Node } from '../../src/model/node.ts';
import type { Service } from '../../src/model/service.ts';
import { createEndpointCache } from '../../src/observed/endpoint-cache.ts';
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

test('session affinity: known clients first, then the others, each through the chain of its endpoint; one endpoint needs no choice', async () => {
  const sessionAffinity = { type: 'clientIP', timeoutSeconds: 600 };
  const services = [
    aService({
      selector: { app: 'web' },
      manyPorts: true,
      ports: [
        { name: 'http', port: 80, protocol: 'tcp', targetPort: 8080 },
        { name: 'quic', port: 443, protocol: 'udp', targetPort: 'quic' },
      ],
      sessionAffinity,
    }),
    aService({ name: 'db', clusterIp: '10.201.0.2', ports: [{ port: 5432, protocol: 'tcp' }], endpoints: [{ ip: '192.0.2.7' }], sessionAffinity }),
  ];
  // Only the first has a port named quic.
  const workloads = three.map((workload, index) => (index === 0 ? aWorkload({ ...workload, ports: [{ name: 'quic', port: 8443, protocol: 'udp' }] }) : workload));
  const { iptables, ipsets } = compile(desired({ services, workloads }), observed(workloads));
  const sets = ipsets.slice(1).map(({ name, create, members }) => `create ${name} ${create} # ${members.size} members`);
  await assertGolden('affinity', [asText(iptables).replace(/^[^]*(?=\*nat)/, ''), ...sets, ''].join('\n'));
  const referred = new Set(asText(iptables).match(/CLAW-A-\w+/g));
  assert.deepEqual(referred, new Set(ipsets.slice(1).map(({ name }) => name)));
  assert.ok([...referred].every((name) => name.length <= 31));
});

test('an endpoint keeps its set when its port, the timeout or another endpoint changes, and not when it is another workload with the same address', () => {
  const setsWith = (fields: Record<string, unknown>, workloads = three): string[] => {
    const services = [aService({ selector: { app: 'web' }, sessionAffinity: { type: 'clientIP' }, ...fields })];
    return compile(desired({ services, workloads }), observed(workloads)).ipsets.slice(1).map(({ name, create }) => `${name} ${create}`);
  };
  const sets = setsWith({});
  assert.equal(sets.length, 3);
  assert.deepEqual(setsWith({ ports: [{ port: 81, protocol: 'tcp', targetPort: 9090 }], sessionAffinity: { type: 'clientIP', timeoutSeconds: 5 } }), sets);
  assert.deepEqual(setsWith({}, three.slice(1)), sets.slice(1));
  const [first, ...others] = three;
  assert.deepEqual(setsWith({}, [aWorkload({ ...first, id: 'ffffffff' }), ...others]).slice(1), sets.slice(1));
  assert.notEqual(setsWith({}, [aWorkload({ ...first, id: 'ffffffff' }), ...others])[0], sets[0]);
  assert.deepEqual(setsWith({ sessionAffinity: undefined }), []);
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

test('no rule names a chain that is not there, no chain is unreachable, every name fits 28 bytes, no level has more than 16 children of up to 4 rules', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 65_534 }), { maxLength: 60 }), (offsets) => {
      const services = offsets.map((offset, index) => aService({ name: `s${index}`, selector: { app: 'web' }, clusterIp: `10.201.${offset >> 8}.${offset & 255}` }));
      const { iptables } = compile(desired({ services, workloads: three }), observed(three));
      for (const { chains, jumps } of Object.values(iptables)) {
        const targets = [...jumps.map(({ rule }) => rule), ...[...chains.values()].flat()].flatMap((rule) => rule.match(/(?<=-[jg] )CLAW-\S+/g) ?? []);
        assert.deepEqual(new Set(targets), new Set(chains.keys()));
        for (const [name, rules] of chains) {
          assert.ok(Buffer.byteLength(name) <= 28, name);
          if (name === 'CLAW-SERVICES') assert.ok(rules.length <= 17, name);
          if (name.startsWith('CLAW-VIP-')) assert.ok(rules.length <= 16 * (name.endsWith('-28') ? 4 : 1), name);
        }
      }
    }),
    { numRuns: 50 },
  );
});

const DEAD = 'restarting';

test('a few rules stand in the block of their address; many get a chain of their own', () => {
  const many = Array.from({ length: 5 }, (_, index) => aWorkload({ name: `w${index}`, id: `${index}000000f`, ip: `10.200.1.${index + 2}` }));
  const few = compile(desired({ services: [aService({ selector: { app: 'web' } })], workloads: many.slice(0, 4) }), observed(many)).iptables.nat.chains;
  assert.equal(few.get('CLAW-VIP-10.201.0.0-28')?.length, 4);
  const more = compile(desired({ services: [aService({ selector: { app: 'web' } })], workloads: many }), observed(many)).iptables.nat.chains;
  const [jump = ''] = more.get('CLAW-VIP-10.201.0.0-28') ?? [];
  assert.match(jump, /^-d 10\.201\.0\.1\/32 -j CLAW-S-[0-9A-F]{20}$/);
  assert.equal(more.get(jump.split(' ').at(-1) ?? '')?.length, 5);
});

test('what did not change is the same object, from the rules of one chain to the whole table', () => {
  const services = ['10.201.0.1', '10.201.7.1'].map((clusterIp, index) => aService({ name: `s${index}`, selector: { app: 'web' }, clusterIp }));
  const state = desired({ services, workloads: three });
  const compiler = kernelCompiler(node);
  const lookup = createEndpointCache(state, observed(three)).endpointsOf;
  const first = compiler.compile(state, lookup);
  const second = compiler.compile(state, lookup);
  assert.equal(second.iptables.nat, first.iptables.nat);
  assert.equal(second.iptables.filter, first.iptables.filter);
  const changed = { ...state, services: new Map([...state.services].slice(1)) };
  const third = compiler.compile(changed, lookup, ['services/default/s0']);
  assert.equal(third.iptables.nat.chains.has('CLAW-VIP-10.201.0.0-28'), false);
  assert.equal(third.iptables.nat.chains.get('CLAW-VIP-10.201.7.0-28'), first.iptables.nat.chains.get('CLAW-VIP-10.201.7.0-28'));
});

test('whatever was compiled before, the result is that of the state alone', () => {
  // Each step gives one of eight services another address, more endpoints or none, or takes it away; or lets a workload die.
  const step = fc.oneof(
    fc.record({ service: fc.nat(7), at: fc.integer({ min: 1, max: 40 }), endpoints: fc.integer({ min: -1, max: 7 }) }),
    fc.record({ dead: fc.subarray(['0000000a', '1000000b', '2000000c']) }),
  );
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 25 }), (steps) => {
      const compiler = kernelCompiler(node);
      let services: ReadonlyMap<string, Service> = new Map();
      let world = observed(three);
      for (const [index, one] of steps.entries()) {
        const changed = 'dead' in one ? undefined : [`services/default/s${one.service}`];
        if ('dead' in one) world = { ...observed(three, Object.fromEntries(one.dead.map((id) => [id, DEAD]))), generation: index };
        else services = withService(services, one);
        const state = { ...desired({ workloads: three }), services };
        const incremental = compiler.compile(state, endpointLookup(state, world), changed);
        const alone = compile(state, world);
        assert.equal(asText(incremental.iptables), asText(alone.iptables));
        assert.deepEqual(new Set(incremental.ipsets), new Set(alone.ipsets));
      }
    }),
    { numRuns: 200 },
  );
});

/** -1 endpoints: the service goes; 0: it selects the three workloads. An address that another service has is taken from it. */
function withService(before: ReadonlyMap<string, Service>, { service, at, endpoints }: { service: number; at: number; endpoints: number }): ReadonlyMap<string, Service> {
  const key = `services/default/s${service}`;
  const clusterIp = `10.201.0.${at}`;
  const after = new Map(before);
  if ([...before].some(([other, held]) => other !== key && held.clusterIp === clusterIp)) return after;
  after.delete(key);
  const behind = endpoints === 0 ? { selector: { app: 'web' } } : { endpoints: Array.from({ length: endpoints }, (_, index) => ({ ip: `192.0.2.${index + 1}` })) };
  return endpoints < 0 ? after : after.set(key, aService({ name: `s${service}`, clusterIp, ...behind, ...(at % 3 === 0 ? { sessionAffinity: { type: 'clientIP' } } : {}) }));
}

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
