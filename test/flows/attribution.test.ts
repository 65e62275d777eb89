/** Whose connection an event was, and which policies are named for it: the same that the policy model names. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { attribution } from '../../src/flows/attribution.ts';
import { ipv4, port } from '../../src/model/address.ts';
import type { FlowEvent } from '../../src/model/flow.ts';
import { policyModel } from '../../src/policy/evaluate.ts';
import { policyName } from '../../src/policy/reasons.ts';
import { aPolicy, aWorkload, desired } from '../compile/state.ts';

const web = aWorkload({ id: '0000000a', name: 'web', labels: { app: 'web' }, ip: '10.200.1.2' });
const db = aWorkload({ id: '0000000b', name: 'db', namespace: 'shop', labels: { app: 'db' }, ip: '10.200.1.3' });

function event(fields: Partial<FlowEvent> = {}): FlowEvent {
  return { timeMs: 1000, from: web.ip, to: db.ip, port: 5432, protocol: 'tcp', verdict: 'deny', place: 'ingress', ...fields };
}

test('workloads are named, others are their addresses, and the node is itself', () => {
  const attribute = attribution(desired({ workloads: [web, db] }));
  assert.deepEqual(attribute(event()), {
    timeMs: 1000,
    from: 'default/web',
    fromIp: '10.200.1.2',
    to: 'shop/db',
    toIp: '10.200.1.3',
    port: 5432,
    protocol: 'tcp',
    verdict: 'deny',
    direction: 'ingress',
    policy: null,
    mode: 'enforce',
  });
  const { to, toIp } = attribute(event({ to: ipv4.parse('10.200.1.1'), place: 'host' }));
  assert.deepEqual([to, toIp], ['entity:host', '10.200.1.1']);
  const outside = attribute(event({ to: ipv4.parse('192.0.2.1'), place: 'egress', verdict: 'audit', port: undefined, protocol: 'icmp' }));
  assert.deepEqual([outside.to, outside.port, outside.mode], ['192.0.2.1', null, 'audit']);
});

test('a denial names all enforced policies that isolate the side that denied, as the policy model does', () => {
  const policies = [
    aPolicy({ name: 'b', namespace: 'shop', ingress: [] }),
    aPolicy({ name: 'a', namespace: 'shop', selector: { app: 'db' }, ingress: [{ port: port.parse(80) }] }),
    aPolicy({ name: 'audited', namespace: 'shop', ingress: [], mode: 'audit' }),
    aPolicy({ name: 'way-out', namespace: 'shop', egress: [] }),
    aPolicy({ name: 'others', namespace: 'shop', selector: { app: 'x' }, ingress: [] }),
    aPolicy({ name: 'elsewhere', ingress: [] }),
    aPolicy({ name: 'web-out', egress: [] }),
  ];
  const state = desired({ workloads: [web, db], policies });
  const attribute = attribution(state);
  assert.equal(attribute(event()).policy, 'shop/a, shop/b');
  assert.equal(attribute(event({ place: 'egress' })).policy, 'default/web-out');
  const judged = policyModel({ policies, namespaces: new Map() }).judge({ from: { kind: 'workload', workload: web }, to: { kind: 'workload', workload: db }, protocol: 'tcp', port: 5432 });
  assert.equal(attribute(event()).policy, judged.ingress.isolating.map(policyName).toSorted().join(', '));
  assert.equal(attribute(event({ place: 'egress' })).policy, judged.egress.isolating.map(policyName).join(', '));
});

test('what passed in audit mode names the audited policies, as the policy model does', () => {
  const policies = [aPolicy({ name: 'open', namespace: 'shop', ingress: [{ port: port.parse(5432) }] }), aPolicy({ name: 'trial', namespace: 'shop', selector: { app: 'db' }, ingress: [], mode: 'audit' })];
  const attribute = attribution(desired({ workloads: [web, db], policies: policies.slice(1) }));
  assert.equal(attribute(event({ verdict: 'audit' })).policy, 'shop/trial');
  const judged = policyModel({ policies: policies.slice(1), namespaces: new Map() }).judge({ from: { kind: 'workload', workload: web }, to: { kind: 'workload', workload: db }, protocol: 'tcp', port: 5432 });
  assert.deepEqual(judged.ingress.wouldDeny.map(policyName), ['shop/trial']);
  assert.equal(attribution(desired({ workloads: [web, db], policies }))(event()).policy, 'shop/open');
});

test('on the way to the node native policies are named, for imported ones alone leave it open', () => {
  const policies = [aPolicy({ name: 'native', egress: [] }), aPolicy({ name: 'imported', egress: [], origin: 'kubernetes' })];
  const attribute = attribution(desired({ workloads: [web, db], policies }));
  assert.equal(attribute(event({ place: 'host' })).policy, 'default/native');
  assert.equal(attribute(event({ place: 'egress' })).policy, 'default/imported, default/native');
});

test('an address or a policy that changes hands is noticed', () => {
  const state = { ...desired({ workloads: [web, db], policies: [aPolicy({ name: 'old', namespace: 'shop', ingress: [] })] }) };
  const attribute = attribution(state);
  assert.deepEqual([attribute(event()).to, attribute(event()).policy], ['shop/db', 'shop/old']);
  const successor = aWorkload({ id: '0000000c', name: 'next', namespace: 'shop', ip: db.ip });
  Object.assign(state, desired({ workloads: [web, successor], policies: [aPolicy({ name: 'new', namespace: 'shop', ingress: [] })] }), { workloadGeneration: 2, policyGeneration: 2 });
  assert.deepEqual([attribute(event()).to, attribute(event()).policy], ['shop/next', 'shop/new']);
});
