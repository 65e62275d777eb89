/** network.apply and network.export through the door: all or nothing, nothing twice, and what is written is taken back. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { ClawError } from '../../src/errors.ts';
import { OPENCLAW_CILIUM, OPENCLAW_POLICIES } from '../interop/openclaw-manifests.ts';
import { openDoor, type TestDoor } from './door.ts';

const service = (name: string, spec: object = { selector: { app: name }, ports: [{ port: 80 }] }) => ({ apiVersion: 'v1', kind: 'Service', metadata: { name }, spec });
const ingress = (name: string, to: string, port: object = { number: 80 }) => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'Ingress',
  metadata: { name },
  spec: { rules: [{ host: `${name}.example`, http: { paths: [{ path: '/', pathType: 'Prefix', backend: { service: { name: to, port } } }] } }] },
});
const namespace = (name: string, labels: object = {}) => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } });
const policy = (name: string, spec: object = { podSelector: {} }) => ({ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name }, spec });
const manifestOf = (...objects: object[]): string => objects.map((object) => JSON.stringify(object)).join('\n---\n');
const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

test('the policies for OpenClaw apply as they stand, a second time they change nothing, and with the Cilium one nothing is applied', async (t) => {
  const door = await opened(t);
  await refused(door, { manifest: `${OPENCLAW_POLICIES}---\n${OPENCLAW_CILIUM}` }, { code: 'NOT_SUPPORTED', path: 'manifest[4].kind' });
  const names = ['default-deny', 'allow-dns', 'allow-external-apis', 'allow-ingress'];
  const outcome = (action: string) => ({ applied: names.map((name) => ({ kind: 'NetworkPolicy', namespace: 'openclaw', name, action })), warnings: [] });
  const dry = await door.call('network.apply', { manifest: OPENCLAW_POLICIES, dryRun: true });
  assert.deepEqual(dry, { ...outcome('created'), enforced: false, reason: 'dryRun: nothing was written' });
  assert.deepEqual(await door.stored(), []);
  assert.deepEqual(await door.call('network.apply', { manifest: OPENCLAW_POLICIES }), { ...outcome('created'), enforced: true });
  const stored = await door.stored();
  assert.deepEqual(stored.map(({ key }) => key), ['namespaces/openclaw', ...names.toSorted().map((name) => `policies/openclaw/${name}`)]);
  assert.equal(new Set(stored.map(({ modRevision }) => modRevision)).size, 1, 'one transaction');
  assert.deepEqual(await door.call('network.apply', { manifest: OPENCLAW_POLICIES }), { ...outcome('unchanged'), enforced: true });
  assert.deepEqual(await door.stored(), stored);
});

test('services, their ingresses and a namespace in any order, each service with an address of its own', async (t) => {
  const door = await opened(t);
  const services = numbers(20).map((n) => service(`s-${n}`));
  const { applied, warnings } = await door.call('network.apply', { manifest: manifestOf(ingress('in', 's-7'), ...services, namespace('default', { tier: 'gold' })) });
  assert.deepEqual(warnings, []);
  assert.ok(Array.isArray(applied) && applied.length === 22 && applied.every(({ action }) => action === 'created'));
  const { services: listed } = await door.call('service.list', {});
  assert.ok(Array.isArray(listed));
  assert.deepEqual(new Set(listed.map(({ clusterIp }) => clusterIp)), new Set(numbers(20).map((n) => `10.201.0.${n + 1}`)));
  assert.equal((await door.call('service.create', { name: 'next', port: 80 }))['clusterIp'], '10.201.0.21');
  const { namespaces } = await door.call('namespace.list', {});
  assert.ok(Array.isArray(namespaces));
  assert.deepEqual(namespaces.map(({ labels }) => labels), [{ tier: 'gold', 'kubernetes.io/metadata.name': 'default' }]);
  assert.equal((await door.call('service.delete', { name: 's-3' }))['clusterIp'], '10.201.0.4');
});

test('what differs is replaced whole, keeps its address and its time, and leaves the rest alone', async (t) => {
  const door = await opened(t);
  const manifest = manifestOf(namespace('default'), service('a'), service('b'), ingress('in', 'a'), policy('p'));
  await door.call('network.apply', { manifest });
  await door.call('service.update', { name: 'a', healthCheck: { type: 'tcp' }, drainSeconds: 5 });
  const before = await door.call('service.get', { name: 'a' });
  assert.deepEqual(actions(await door.call('network.apply', { manifest })), ['unchanged', 'updated', 'unchanged', 'unchanged', 'unchanged']);
  const after = await door.call('service.get', { name: 'a' });
  assert.deepEqual({ check: after['healthCheck'], drain: after['drainSeconds'] }, { check: undefined, drain: undefined });
  assert.deepEqual([after['clusterIp'], after['createdAt']], [before['clusterIp'], before['createdAt']]);
  const changes = manifestOf(namespace('default', { a: 'b' }), service('b', { ports: [{ port: 81 }] }), ingress('in', 'b', { number: 81 }), policy('p', { podSelector: {}, policyTypes: ['Egress'] }));
  assert.deepEqual(actions(await door.call('network.apply', { manifest: changes, dryRun: true })), ['updated', 'updated', 'updated', 'updated']);
  const applied = await door.call('network.apply', { manifest: changes });
  assert.deepEqual(actions(applied), ['updated', 'updated', 'updated', 'updated']);
  assert.deepEqual(applied['warnings'], ['manifest[1]: it has neither a selector nor endpoints: connections are refused']);
  const { ingress: isolated, egress } = await door.call('network.policy.get', { name: 'p' });
  assert.deepEqual({ isolated, egress }, { isolated: undefined, egress: [] });
});

test('a policy changes its origin with the form in which it is applied', async (t) => {
  const door = await opened(t);
  await door.call('network.policy.create', { name: 'p', ingress: [], mode: 'audit' });
  const origin = async () => {
    const stored = await door.call('network.policy.get', { name: 'p' });
    return [stored['origin'], stored['mode']];
  };
  assert.deepEqual(await origin(), ['native', 'audit']);
  assert.deepEqual(actions(await door.call('network.apply', { manifest: manifestOf(policy('p')) })), ['updated']);
  assert.deepEqual(await origin(), ['kubernetes', 'enforce']);
  const own = { apiVersion: 'clawbernetes.io/v1', kind: 'NetworkPolicy', metadata: { name: 'p' }, spec: { ingress: [] } };
  assert.deepEqual(actions(await door.call('network.apply', { manifest: manifestOf(own) })), ['updated']);
  assert.deepEqual(await origin(), ['native', 'enforce']);
  assert.deepEqual(actions(await door.call('network.apply', { manifest: manifestOf(own) })), ['unchanged']);
});

test('a virtual IP can only be wished for where it is had already', async (t) => {
  const door = await opened(t);
  const wishing = (clusterIP: string) => ({ manifest: manifestOf(namespace('other'), service('a', { clusterIP, ports: [{ port: 80 }] })) });
  await refused(door, wishing('10.201.0.1'), { code: 'INVALID_ARGUMENT', path: 'manifest[1].spec.clusterIP' });
  await door.call('service.create', { name: 'a', port: 80 });
  await refused(door, wishing('10.201.0.2'), { code: 'INVALID_ARGUMENT', path: 'manifest[1].spec.clusterIP', message: /is 10\.201\.0\.1 and stays/ });
  assert.deepEqual(actions(await door.call('network.apply', wishing('10.201.0.1'))), ['created', 'unchanged']);
});

test('an ingress leads to the first TCP port of its service, whether that is stored or in the manifest', async (t) => {
  const door = await opened(t);
  const several = service('many', { ports: [{ name: 'dns', port: 53, protocol: 'UDP' }, { name: 'web', port: 80 }, { name: 'admin', port: 81 }] });
  const at = 'spec.rules[0].http.paths[0].backend.service.port';
  for (const port of [{ number: 81 }, { number: 53 }, { name: 'admin' }, { name: 'nothing' }]) {
    await refused(door, { manifest: manifestOf(ingress('in', 'many', port), several) }, { code: 'INVALID_ARGUMENT', path: `manifest[0].${at}`, message: /that is 80 \(web\)/ });
  }
  await refused(door, { manifest: manifestOf(service('udp', { ports: [{ port: 53, protocol: 'UDP' }] }), ingress('in', 'udp')) }, { code: 'INVALID_ARGUMENT', path: `manifest[1].${at}`, message: /it has none/ });
  await door.call('network.apply', { manifest: manifestOf(several) });
  await refused(door, { manifest: manifestOf(ingress('in', 'many', { number: 81 })) }, { code: 'INVALID_ARGUMENT', path: `manifest[0].${at}` });
  // The service of the manifest counts, not the one that it replaces.
  const swapped = service('many', { ports: [{ name: 'admin', port: 81 }] });
  assert.deepEqual(actions(await door.call('network.apply', { manifest: manifestOf(ingress('in', 'many', { name: 'admin' }), swapped) })), ['created', 'updated']);
  await door.call('workload.run', { name: 'w', labels: { app: 'closed' }, command: ['x'] });
  const closed = await door.call('network.apply', { manifest: manifestOf(ingress('closed', 'closed'), service('closed'), policy('deny')) });
  assert.deepEqual(closed['warnings'], ['manifest[0]: network policies do not admit the ingress to service closed: requests are answered with 403']);
  const absent = await door.call('network.apply', { manifest: manifestOf(ingress('early', 'later', { number: 4711 })) });
  assert.deepEqual(absent['warnings'], ['manifest[0]: service later does not exist yet: until then requests are answered with 503']);
});

test('what the commands refuse is refused with its path in the manifest, and nothing of it is stored', async (t) => {
  const door = await opened(t);
  await door.call('service.create', { name: 'kept', port: 80 });
  const first = [namespace('new'), service('one')];
  const twice = { ...ingress('in', 'one'), spec: { rules: [...ingress('in', 'one').spec.rules, ...ingress('in', 'one').spec.rules] } };
  const own = (kind: string, spec: object) => ({ apiVersion: 'clawbernetes.io/v1', kind, metadata: { name: 'x' }, spec });
  const cases: readonly (readonly [object, string])[] = [
    [service('x', { ports: [{ port: 80 }, { port: 81 }] }), 'spec.ports[0].name'],
    [service('x', { ports: [{ name: 'a', port: 80 }, { name: 'a', port: 81 }] }), 'spec.ports[1].name'],
    [twice, 'spec.rules[1].http.paths[0]'],
    [namespace('x', { 'kubernetes.io/metadata.name': 'y' }), 'metadata.labels.kubernetes.io/metadata.name'],
    [own('Service', { port: 80, endpoints: [{ ip: '127.0.0.1' }] }), 'spec.endpoints[0].ip'],
    [own('Service', { port: 53, protocol: 'udp', healthCheck: { type: 'tcp' } }), 'spec.healthCheck'],
    [own('Ingress', { rules: [{ host: 'a.example', service: 'a' }, { host: 'a.example', service: 'b' }] }), 'spec.rules[1]'],
    [own('Service', {}), 'spec.port'],
  ];
  for (const [object, path] of cases) await refused(door, { manifest: manifestOf(...first, object) }, { code: 'INVALID_ARGUMENT', path: `manifest[2].${path}` });
  await refused(door, { manifest: '# nothing\n' }, { code: 'INVALID_ARGUMENT', path: 'manifest', message: /holds no object/ });
});

test('limits: objects of a manifest, objects of a kind, rules of ingresses, addresses', async (t) => {
  const door = await opened(t, { clusterIp: '10.202.0.0/29' });
  const list = (count: number) => JSON.stringify({ apiVersion: 'v1', kind: 'List', items: numbers(count).map((n) => namespace(`n-${n}`)) });
  await refused(door, { manifest: list(10_001) }, { code: 'LIMIT_EXCEEDED', path: 'manifest', message: /holds 10001 objects/ });
  await refused(door, { manifest: manifestOf(...numbers(7).map((n) => service(`s-${n}`))) }, { code: 'RANGE_FULL', path: 'ranges.clusterIp' });
  const createdAt = '2026-01-01T00:00:00.000Z';
  const rules = (of: number, count: number) => numbers(count).map((n) => ({ host: `h${n}.i${of}.example`, path: '/', service: 'a' }));
  await door.prefill(Object.fromEntries(numbers(250).map((n) => [`ingresses/default/i-${n}`, { v: 1, createdAt, namespace: 'default', name: `i-${n}`, tls: false, rules: rules(n, n === 0 ? 199 : 200) }])));
  await door.prefill(Object.fromEntries(numbers(9_998).map((n) => [`namespaces/n-${n}`, { v: 1, createdAt, name: `n-${n}`, labels: {} }])));
  await refused(door, { manifest: manifestOf(ingress('a', 's'), ingress('b', 's')) }, { code: 'LIMIT_EXCEEDED', path: 'manifest', message: /49999 rules/ });
  await refused(door, { manifest: manifestOf(namespace('x'), namespace('y'), namespace('z')) }, { code: 'LIMIT_EXCEEDED', path: 'manifest[2].metadata.name', message: /10000 namespaces/ });
  const implied = { ...service('s'), metadata: { name: 's', namespace: 'z' } };
  await refused(door, { manifest: manifestOf(namespace('x'), namespace('y'), implied) }, { code: 'LIMIT_EXCEEDED', path: 'manifest[2].metadata.namespace' });
});

test('an ingress with TLS is stored and said not to be in force', async (t) => {
  const door = await opened(t);
  const tls = { ...ingress('in', 's'), spec: { ...ingress('in', 's').spec, tls: [{ hosts: ['in.example'] }] } };
  const { enforced, reason } = await door.call('network.apply', { manifest: manifestOf(tls, service('s')) });
  assert.equal(enforced, false);
  assert.match(String(reason), /TLS is not built yet/);
  assert.equal((await door.call('ingress.get', { name: 'in' }))['tls'], true);
});

test('an export of one namespace holds that alone, and one that does not exist is told', async (t) => {
  const door = await opened(t);
  await door.call('network.apply', { manifest: `${OPENCLAW_POLICIES}---\n${manifestOf(service('a'), namespace('openclaw', { on: 'yes', octal: '0o7' }))}` });
  const { manifest } = await door.call('network.export', { namespace: 'openclaw' });
  const whole = (await door.call('network.export', {}))['manifest'];
  assert.ok(typeof manifest === 'string' && typeof whole === 'string');
  assert.equal(manifest.split('---\n').length, 5);
  assert.equal(whole.split('---\n').length, 7);
  assert.ok(!manifest.includes('name: a\n'));
  // Older readers of YAML take these for a boolean and a number.
  assert.match(manifest, /^ {4}"on": "yes"\n {4}octal: "0o7"$/m);
  await assert.rejects(door.call('network.export', { namespace: 'none' }), { code: 'NAMESPACE_NOT_FOUND' });
  await assert.rejects(door.call('network.export', { format: 'cilium' }), { code: 'INVALID_ARGUMENT', path: 'format' });
});

async function opened(t: TestContext, options: Parameters<typeof openDoor>[0] = {}): Promise<TestDoor> {
  const door = await openDoor(options);
  t.after(() => door.close());
  return door;
}

function actions({ applied }: Record<string, unknown>): unknown[] {
  return Array.isArray(applied) ? applied.map(({ action }) => action) : assert.fail('nothing was applied');
}

/** After a look that nothing was stored, dry or not. */
async function refused(door: TestDoor, params: { manifest: string }, expected: { readonly code: string; readonly path: string; readonly message?: RegExp }): Promise<void> {
  const before = await door.stored();
  for (const dryRun of [true, false]) {
    const error = await door.call('network.apply', { ...params, dryRun }).then(
      () => assert.fail('it was applied'),
      (thrown: unknown) => (thrown instanceof ClawError ? thrown : assert.fail(String(thrown))),
    );
    assert.deepEqual({ code: error.code, path: error.path }, { code: expected.code, path: expected.path }, error.message);
    if (expected.message !== undefined) assert.match(error.message, expected.message);
    assert.ok(error.hint !== undefined && error.hint !== '', error.message);
  }
  assert.deepEqual(await door.stored(), before);
}
