/** Manifests as people write them: what is read, and what is refused with its path. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ClawError } from '../../src/errors.ts';
import { readObjects } from '../../src/interop/manifest-objects.ts';
import { OPENCLAW_CILIUM, OPENCLAW_POLICIES } from './openclaw-manifests.ts';

const service = (spec: object, metadata: object = {}) => ({ apiVersion: 'v1', kind: 'Service', metadata: { name: 'web', ...metadata }, spec });
const ports = [{ port: 80 }];
const path = (fields: object = {}) => ({ path: '/', pathType: 'Prefix', backend: { service: { name: 'web', port: { number: 80 } } }, ...fields });
const ingress = (spec: object, metadata: object = {}) => ({ apiVersion: 'networking.k8s.io/v1', kind: 'Ingress', metadata: { name: 'web', ...metadata }, spec });
const rule = (host: string, ...paths: object[]) => ({ host, http: { paths: paths.length === 0 ? [path()] : paths } });
const policy = (spec: object, metadata: object = {}) => ({ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name: 'p', ...metadata }, spec });
const own = (kind: string, spec: object) => ({ apiVersion: 'clawbernetes.io/v1', kind, metadata: { name: 'x' }, spec });

test('the manifests for OpenClaw are read as they stand', async () => {
  const objects = await readObjects(OPENCLAW_POLICIES);
  assert.deepEqual(objects.map(({ kind, place }) => [kind, place]), [0, 1, 2, 3].map((n) => ['NetworkPolicy', `manifest[${n}]`]));
  const [deny, dns, apis, web] = objects.map((object) => (object.kind === 'NetworkPolicy' ? object.spec : assert.fail(object.kind)));
  const common = { namespace: 'openclaw', origin: 'kubernetes', mode: 'enforce' };
  const app = { selector: { matchLabels: { app: 'openclaw' } } };
  assert.deepEqual(deny, { ...common, name: 'default-deny', selector: {}, ingress: [], egress: [] });
  assert.deepEqual(dns, { ...common, ...app, name: 'allow-dns', egress: [{ peers: [{ namespaceSelector: {} }], ports: [{ protocol: 'udp', port: 53 }, { protocol: 'tcp', port: 53 }] }] });
  assert.deepEqual(apis, { ...common, ...app, name: 'allow-external-apis', egress: [443, 5222].map((port) => ({ peers: [], ports: [{ protocol: 'tcp', port }] })) });
  const named = (name: string) => ({ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': name } } });
  assert.deepEqual(web, { ...common, ...app, name: 'allow-ingress', ingress: [{ peers: [named('ingress-nginx'), named('monitoring')], ports: [{ protocol: 'tcp', port: 18789 }] }] });
});

test('the Cilium manifest is refused by its kind, and so is everything else that is none of ours', async () => {
  await refused(OPENCLAW_CILIUM, { code: 'NOT_SUPPORTED', path: 'manifest[0].kind', message: /cilium\.io\/v2 CiliumNetworkPolicy/ });
  await refused(`${OPENCLAW_POLICIES}---\n${OPENCLAW_CILIUM}`, { code: 'NOT_SUPPORTED', path: 'manifest[4].kind' });
  await refused(json({ apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'a' } }), { code: 'NOT_SUPPORTED', path: 'manifest[0].kind' });
  await refused(json({ apiVersion: 'v1', kind: 'Endpoints', metadata: { name: 'a' } }), { code: 'NOT_SUPPORTED', path: 'manifest[0].kind' });
  await refused(json({ apiVersion: 'extensions/v1beta1', kind: 'Ingress', metadata: { name: 'a' } }), { code: 'NOT_SUPPORTED', path: 'manifest[0].apiVersion' });
});

test('services, as a cluster or a person writes them', async () => {
  assert.deepEqual(await readOne(service({ ports })), { kind: 'Service', named: { namespace: 'default', name: 'web' }, form: { port: 80, protocol: 'tcp' } });
  const filledIn = { type: 'ClusterIP', clusterIP: '10.201.0.7', clusterIPs: ['10.201.0.7'], ipFamilies: ['IPv4'], ipFamilyPolicy: 'SingleStack', internalTrafficPolicy: 'Cluster', sessionAffinity: 'None' };
  const metadata = { namespace: 'shop', uid: 'x', labels: { a: 'b' }, annotations: { 'kubectl.kubernetes.io/last-applied-configuration': '{}', 'prometheus.io/scrape': 'true' } };
  assert.deepEqual(await readOne({ ...service({ ...filledIn, selector: { app: 'web' }, ports: [{ port: 53, name: 'dns', protocol: 'UDP', targetPort: 'dns' }] }, metadata), status: { loadBalancer: {} } }), {
    kind: 'Service',
    named: { namespace: 'shop', name: 'web' },
    form: { selector: { app: 'web' }, ports: [{ port: 53, name: 'dns', protocol: 'udp', targetPort: 'dns' }] },
    wish: { ip: '10.201.0.7', path: 'spec.clusterIP' },
  });
  const sticky = await readOne(service({ ports, sessionAffinity: 'ClientIP', clusterIP: '', selector: null }));
  assert.deepEqual(sticky, { kind: 'Service', named: { namespace: 'default', name: 'web' }, form: { port: 80, protocol: 'tcp', sessionAffinity: { type: 'clientIP', timeoutSeconds: 10_800 } } });
});

test('what a service can not be is refused with its path', async () => {
  const cases: readonly (readonly [object, string])[] = [
    [service({ ports, type: 'NodePort' }), 'spec.type'],
    [service({ ports, type: 'LoadBalancer' }), 'spec.type'],
    [service({ type: 'ExternalName', externalName: 'x.example', ports }), 'spec.type'],
    [service({ ports: [{ port: 80, nodePort: 30_080 }] }), 'spec.ports[0].nodePort'],
    [service({ ports: [{ port: 80 }, { port: 70_000, name: 'b' }] }), 'spec.ports[1].port'],
    [service({ ports: [{ port: 80, protocol: 'SCTP' }] }), 'spec.ports[0].protocol'],
    [service({ ports: [{ port: 80, targetPort: 'Not A Port' }] }), 'spec.ports[0].targetPort'],
    [service({ ports: [{ port: 80, appProtocol: 'kubernetes.io/h2c' }] }), 'spec.ports[0].appProtocol'],
    [service({ ports: [] }), 'spec.ports'],
    [service({}), 'spec.ports'],
    [service({ ports, clusterIP: 'None' }), 'spec.clusterIP'],
    [service({ ports, clusterIP: 'fd00::1' }), 'spec.clusterIP'],
    [service({ ports, externalIPs: ['192.0.2.1'] }), 'spec.externalIPs'],
    [service({ ports, loadBalancerSourceRanges: ['192.0.2.0/24'] }), 'spec.loadBalancerSourceRanges'],
    [service({ ports, externalTrafficPolicy: 'Local' }), 'spec.externalTrafficPolicy'],
    [service({ ports, internalTrafficPolicy: 'Local' }), 'spec.internalTrafficPolicy'],
    [service({ ports, publishNotReadyAddresses: true }), 'spec.publishNotReadyAddresses'],
    [service({ ports, ipFamilies: ['IPv4', 'IPv6'] }), 'spec.ipFamilies[1]'],
    [service({ ports, trafficDistribution: 'PreferClose' }), 'spec.trafficDistribution'],
    [service({ ports, sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 0 } } }), 'spec.sessionAffinityConfig.clientIP.timeoutSeconds'],
    [service({ ports }, { name: 'a.b' }), 'metadata.name'],
    [service({ ports }, { annotations: { 'service.beta.kubernetes.io/aws-load-balancer-type': 'nlb' } }), 'metadata.annotations.service.beta.kubernetes.io/aws-load-balancer-type'],
    [{ ...service({ ports }), extra: 1 }, 'extra'],
  ];
  for (const [object, at] of cases) await refused(json(object), { code: 'INVALID_ARGUMENT', path: `manifest[0].${at}` });
});

test('ingresses: prefixes of hosts, in the order in which they stand', async () => {
  const spec = { ingressClassName: 'nginx', tls: [{ hosts: ['a.example', '*.b.example'] }], rules: [rule('A.example', path(), path({ path: '/api/' })), rule('*.b.example')] };
  assert.deepEqual(await readOne(ingress(spec)), {
    kind: 'Ingress',
    spec: { namespace: 'default', name: 'web', tls: true, rules: [['a.example', '/'], ['a.example', '/api'], ['*.b.example', '/']].map(([host, prefix]) => ({ host, path: prefix, service: 'web' })) },
    ports: [{ number: 80 }, { number: 80 }, { number: 80 }],
    places: ['spec.rules[0].http.paths[0]', 'spec.rules[0].http.paths[1]', 'spec.rules[1].http.paths[0]'],
  });
});

test('what an ingress can not be is refused with its path', async () => {
  const first = 'spec.rules[0].http.paths[0]';
  const cases: readonly (readonly [object, string])[] = [
    [ingress({ rules: [{ http: { paths: [path()] } }] }), 'spec.rules[0].host'],
    [ingress({ rules: [{ host: 'a.example' }] }), 'spec.rules[0].http'],
    [ingress({ rules: [rule('a.example:80')] }), 'spec.rules[0].host'],
    [ingress({ rules: [rule('a.example', path({ pathType: 'Exact' }))] }), `${first}.pathType`],
    [ingress({ rules: [rule('a.example', path({ pathType: 'ImplementationSpecific' }))] }), `${first}.pathType`],
    [ingress({ rules: [rule('a.example', path(), path({ path: '/a(.*)|x' }))] }), 'spec.rules[0].http.paths[1].path'],
    [ingress({ rules: [rule('a.example', path({ path: undefined }))] }), `${first}.path`],
    [ingress({ rules: [rule('a.example', path({ backend: { resource: { kind: 'StorageBucket', name: 'x' } } }))] }), `${first}.backend.service`],
    [ingress({ rules: [rule('a.example', path({ backend: { service: { name: 'web' } } }))] }), `${first}.backend.service.port`],
    [ingress({ rules: [rule('a.example')], defaultBackend: { service: { name: 'web', port: { number: 80 } } } }), 'spec.defaultBackend'],
    [ingress({ rules: [rule('a.example')], ingressClassName: 'gce-internal' }), 'spec.ingressClassName'],
    [ingress({ rules: [rule('a.example')], tls: [{ hosts: ['a.example'], secretName: 'cert' }] }), 'spec.tls[0].secretName'],
    [ingress({ rules: [rule('a.example'), rule('b.example')], tls: [{ hosts: ['a.example'] }] }), 'spec.tls'],
    [ingress({ rules: Array.from({ length: 201 }, (_, n) => rule(`h${n}.example`)) }), 'spec.rules'],
    [ingress({}), 'spec.rules'],
    [ingress({ rules: [rule('a.example')] }, { annotations: { 'nginx.ingress.kubernetes.io/whitelist-source-range': '192.0.2.0/24' } }), 'metadata.annotations.nginx.ingress.kubernetes.io/whitelist-source-range'],
    [ingress({ rules: [rule('a.example')] }, { annotations: { 'kubernetes.io/ingress.class': 'traefik' } }), 'metadata.annotations.kubernetes.io/ingress.class'],
  ];
  for (const [object, at] of cases) await refused(json(object), { code: 'INVALID_ARGUMENT', path: `manifest[0].${at}` });
});

test('what a policy can not be is refused with its path', async () => {
  const cases: readonly (readonly [object, string])[] = [
    [policy({ podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: 'fd00::/8' } }] }] }), 'spec.ingress[0].from[0].ipBlock.cidr'],
    [policy({ podSelector: {}, ingress: [{ from: [{}] }] }), 'spec.ingress[0].from[0]'],
    [policy({ podSelector: {}, ingress: [{ ports: [{ port: 90, endPort: 80 }] }] }), 'spec.ingress[0].ports[0].endPort'],
    [policy({ podSelector: { matchExpressions: [{ key: 'a', operator: 'In' }] } }), 'spec.podSelector.matchExpressions[0].values'],
    [policy({ podSelector: {} }, { annotations: { 'clawbernetes.io/origin': 'elsewhere' } }), 'metadata.annotations.clawbernetes.io/origin'],
    [own('NetworkPolicy', { ingress: [{ form: {} }] }), 'spec.ingress[0].form'],
    [own('NetworkPolicy', { egress: [{ to: { entity: 'ingress' } }] }), 'spec.egress[0].to.entity'],
    [own('NetworkPolicy', { mode: 'off' }), 'spec.mode'],
    [own('Service', { port: 80, healthCheck: { type: 'icmp' } }), 'spec.healthCheck.type'],
    [own('Ingress', { rules: [{ host: 'a.example', service: 'a', path: 'x' }] }), 'spec.rules[0].path'],
    [{ ...own('Ingress', { rules: [] }), metadata: { name: 'x', labels: {} } }, 'metadata.labels'],
  ];
  for (const [object, at] of cases) await refused(json(object), { code: 'INVALID_ARGUMENT', path: `manifest[0].${at}` });
});

test('our own objects take the forms of our commands', async () => {
  assert.deepEqual(await readOne(own('Service', { port: 80, healthCheck: { type: 'tcp' } })), {
    kind: 'Service',
    named: { namespace: 'default', name: 'x' },
    form: { port: 80, healthCheck: { type: 'tcp', intervalMs: 5000, timeoutMs: 1000, failures: 3, successes: 1 } },
  });
  const audited = await readOne(own('NetworkPolicy', { selector: { app: 'db' }, ingress: [{ from: { entity: 'ingress' } }], mode: 'audit' }));
  assert.deepEqual(audited, {
    kind: 'NetworkPolicy',
    spec: { namespace: 'default', name: 'x', origin: 'native', mode: 'audit', selector: { matchLabels: { app: 'db' } }, ingress: [{ peers: [{ entity: 'ingress' }], ports: [] }] },
  });
});

test('several documents: YAML, JSON, Lists, typed lists, and empty ones that do not count', async () => {
  const names = async (manifest: string) => (await readObjects(manifest)).map((object) => (object.kind === 'Namespace' ? object.spec.name : assert.fail(object.kind)));
  const namespace = (name: string) => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
  assert.deepEqual(await names(`---\n# nothing\n---\n${json(namespace('a'))}\n---\n\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: b\n...\n`), ['a', 'b']);
  assert.deepEqual(await names(json({ apiVersion: 'v1', kind: 'List', items: [namespace('a'), namespace('b')] })), ['a', 'b']);
  assert.deepEqual(await names(json({ apiVersion: 'v1', kind: 'NamespaceList', items: [{ metadata: { name: 'a' } }] })), ['a']);
  assert.deepEqual(await names(''), []);
  const many = Array.from({ length: 50 }, (_, n) => `n${n}`);
  assert.deepEqual(await names(many.map((name) => json(namespace(name))).join('\n---\n')), many);
});

test('a manifest that is no YAML, or whose objects say not what they are, is refused', async () => {
  await refused('a: [1', { code: 'INVALID_ARGUMENT', path: 'manifest', message: /at line 1, column 6/ });
  await refused('a: 1\na: 2', { code: 'INVALID_ARGUMENT', path: 'manifest', message: /unique at line 2, column 1/ });
  await refused('kind: Service', { code: 'INVALID_ARGUMENT', path: 'manifest[0].apiVersion' });
  await refused('just text', { code: 'INVALID_ARGUMENT', path: 'manifest[0].kind' });
  const bomb = ['a: &a [x,x,x,x,x,x,x,x,x]', ...'bcdefgh'.split('').map((key, n) => `${key}: &${key} [${Array.from({ length: 9 }, () => `*${'abcdefg'.charAt(n)}`).join(',')}]`)];
  await refused(bomb.join('\n'), { code: 'INVALID_ARGUMENT', path: 'manifest', message: /[Aa]lias/ });
});

test('an object that stands there twice is refused, whichever form it has', async () => {
  const cases: readonly (readonly [object, object])[] = [
    [service({ ports }), service({ ports: [{ port: 81 }] }, { namespace: 'default' })],
    [policy({ podSelector: {} }, { name: 'x' }), own('NetworkPolicy', {})],
    [{ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'a' } }, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'a' } }],
  ];
  for (const [one, other] of cases) await refused(`${json(one)}\n---\n${json(other)}`, { code: 'INVALID_ARGUMENT', path: 'manifest[1].metadata.name', message: /manifest\[0\]/ });
  assert.equal((await readObjects(`${json(service({ ports }))}\n---\n${json(service({ ports }, { namespace: 'other' }))}`)).length, 2);
});

function json(object: unknown): string {
  return JSON.stringify(object);
}

async function readOne(object: object) {
  const [read] = await readObjects(json(object));
  const { place, ...rest } = read ?? assert.fail('nothing was read');
  assert.equal(place, 'manifest[0]');
  return rest;
}

async function refused(manifest: string, expected: { readonly code: string; readonly path: string; readonly message?: RegExp }): Promise<void> {
  const error = await readObjects(manifest).then(
    () => assert.fail(`it was read: ${manifest.slice(0, 300)}`),
    (thrown: unknown) => (thrown instanceof ClawError ? thrown : assert.fail(String(thrown))),
  );
  assert.deepEqual({ code: error.code, path: error.path }, { code: expected.code, path: expected.path }, error.message);
  if (expected.message !== undefined) assert.match(error.message, expected.message);
  assert.ok(error.message.startsWith(error.path ?? '-') && error.hint !== undefined, error.message);
}
