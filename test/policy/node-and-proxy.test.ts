/** What policies mean to the node and to its ingress proxy, which have no labels, and what audited policies do. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { allowed, ask, judge, kubernetes } from './ask.ts';

const workloads = [
  { name: 'web', labels: { app: 'web' }, ip: '10.200.1.1', ports: [{ name: 'http', port: 80 }] },
  { name: 'db', labels: { app: 'db' }, ip: '10.200.1.2' },
  { namespace: 'ingress-nginx', name: 'someone', labels: {}, ip: '10.200.1.9' },
];
const over = (...policies: Record<string, unknown>[]) => ({ workloads, policies });

describe('the node', () => {
  const TO_NODE = ['web -> entity:host 22', 'web -> entity:host udp/53', 'web -> entity:host tcp/53'];
  const [SSH = '', ...DNS] = TO_NODE;

  test('reaches its workloads, whatever isolates them', () => {
    assert.deepEqual(allowed(over({ name: 'p', ingress: [] }, kubernetes({ podSelector: {} }, { name: 'k' })), ['entity:host -> web 80']), ['entity:host -> web 80']);
  });

  test('is not reached by a workload that a native policy with egress selects, unless it is listed', () => {
    const egress = (...rules: Record<string, unknown>[]) => over({ name: 'p', selector: { app: 'web' }, egress: rules });
    assert.deepEqual(allowed(egress(), TO_NODE), []);
    assert.deepEqual(allowed(egress({ to: { selector: {} } }), [SSH]), []);
    assert.deepEqual(allowed(egress({ to: { entity: 'host' }, port: 22 }), [SSH, 'web -> entity:host 23']), [SSH]);
    assert.deepEqual(allowed(egress({}), TO_NODE), TO_NODE);
    assert.deepEqual(allowed(egress({ to: { cidr: '0.0.0.0/0' } }), TO_NODE), TO_NODE);
  });

  test('stays open to workloads that only Kubernetes policies select, also those without any egress', () => {
    assert.deepEqual(allowed(over(kubernetes({ podSelector: {}, policyTypes: ['Egress'] })), TO_NODE), TO_NODE);
    assert.deepEqual(allowed(over(kubernetes({ podSelector: {}, policyTypes: ['Egress'] }), { name: 'native', egress: [] }), TO_NODE), []);
  });

  test('a native policy of ingress alone leaves the way to it open', () => {
    assert.deepEqual(allowed(over({ name: 'p', ingress: [] }), TO_NODE), TO_NODE);
  });

  test('answers names to every workload that may go anywhere, and to no other', () => {
    assert.deepEqual(allowed(over({ name: 'p', selector: { app: 'web' }, egress: [{ to: { selector: { app: 'db' } }, port: 5432 }] }), TO_NODE), DNS);
    assert.deepEqual(allowed(over({ name: 'p', selector: { app: 'web' }, egress: [] }), TO_NODE), []);
  });

  test('its resolver is no other resolver', () => {
    assert.deepEqual(allowed(over({ name: 'p', egress: [{ to: { selector: {} } }] }), ['web -> 8.8.8.8 udp/53']), []);
  });
});

describe('the ingress proxy', () => {
  const PROXY = 'entity:ingress -> web 80';
  const NODE = 'entity:host -> web 80';
  const native = (...ingress: Record<string, unknown>[]) => over({ name: 'p', selector: { app: 'web' }, ingress });

  test('is not the node: a policy isolates a workload from it', () => {
    assert.deepEqual(allowed(native(), [PROXY, NODE]), [NODE]);
    assert.deepEqual(allowed(native({ from: { entity: 'host' } }), [PROXY]), []);
  });

  test('is admitted by its entity, by a rule for everyone and by the range of all addresses', () => {
    for (const from of [{ entity: 'ingress' }, { cidr: '0.0.0.0/0' }]) assert.deepEqual(allowed(native({ from }), [PROXY]), [PROXY]);
    assert.deepEqual(allowed(native({}), [PROXY]), [PROXY]);
    assert.deepEqual(allowed(native({ from: { cidr: '0.0.0.0/0', except: ['10.0.0.0/8'] } }), [PROXY]), []);
  });

  test('is no workload to native policies', () => {
    assert.deepEqual(allowed(native({ from: { namespaceSelector: { 'kubernetes.io/metadata.name': 'ingress-nginx' } } }), [PROXY, 'ingress-nginx/someone -> web 80']), ['ingress-nginx/someone -> web 80']);
    assert.deepEqual(allowed(native({ from: { entity: 'ingress' } }), ['ingress-nginx/someone -> web 80']), []);
  });

  test('is a pod of the namespace ingress-nginx to Kubernetes policies', () => {
    const from = (peer: Record<string, unknown>) => over(kubernetes({ podSelector: {}, ingress: [{ from: [peer] }] }));
    const named = (name: string) => ({ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': name } } });
    assert.deepEqual(allowed(from(named('ingress-nginx')), [PROXY]), [PROXY]);
    assert.deepEqual(allowed(from({ ...named('ingress-nginx'), podSelector: { matchLabels: { 'app.kubernetes.io/name': 'ingress-nginx' } } }), [PROXY]), [PROXY]);
    assert.deepEqual(allowed(from({ namespaceSelector: {} }), [PROXY]), [PROXY]);
    assert.deepEqual(allowed(from(named('default')), [PROXY]), []);
    assert.deepEqual(allowed(from({ podSelector: {} }), [PROXY]), []);
  });

  test('is known by the labels that its namespace is given', () => {
    const policy = kubernetes({ podSelector: {}, ingress: [{ from: [{ namespaceSelector: { matchLabels: { role: 'edge' } } }] }] });
    assert.deepEqual(allowed(over(policy), [PROXY]), []);
    assert.deepEqual(allowed({ ...over(policy), namespaces: [{ name: 'ingress-nginx', labels: { role: 'edge' } }] }, [PROXY]), [PROXY]);
  });
});

describe('an audited policy', () => {
  const audit = { name: 'audit', selector: { app: 'db' }, ingress: [{ port: 1 }], mode: 'audit' };
  const wouldDeny = (question: string, ...policies: Record<string, unknown>[]): string[] => judge(over(...policies), question).ingress.wouldDeny.map(({ name }) => name);

  test('denies nothing, and is named where it would', () => {
    assert.deepEqual(allowed(over(audit), ['web -> db 1', 'web -> db 2']), ['web -> db 1', 'web -> db 2']);
    assert.deepEqual([wouldDeny('web -> db 1', audit), wouldDeny('web -> db 2', audit)], [[], ['audit']]);
  });

  test('allows nothing that enforced ones deny', () => {
    const enforced = { name: 'enforced', selector: { app: 'db' }, ingress: [] };
    assert.equal(ask(over(audit, enforced), 'web -> db 1').verdict, 'deny');
  });

  test('would not deny what an enforced one allows, for policies add up', () => {
    const enforced = { name: 'enforced', selector: { app: 'db' }, ingress: [{ port: 2 }] };
    assert.deepEqual(wouldDeny('web -> db 2', audit, enforced), []);
  });
});
