/** Policies through the whole agent: a database only the API reaches, manifests with an ingress, explanations carried out, probes; on the real kernel. */
import { strict as assert } from 'node:assert';
import { request } from 'node:http';
import { after, afterEach, before, test } from 'node:test';
import { stringify } from 'yaml';
import { answered, assertRefused, closeEverything, host, inside, openTestAgent, serverCommand, until, type TestAgent, type TestWorkload } from './agent-fixture.ts';
import { enterNamespace } from './namespace.ts';

let agent: TestAgent;

before(async () => {
  await enterNamespace();
  agent = await openTestAgent();
});

afterEach(async () => {
  const { policies } = await agent.invoke('network.policy.list', { limit: 500 });
  assert.ok(Array.isArray(policies));
  for (const policy of policies) await agent.invoke('network.policy.delete', { namespace: Reflect.get(Object(policy), 'namespace'), name: Reflect.get(Object(policy), 'name') });
  await agent.clear();
});

after(closeEverything);

async function three(): Promise<Record<'api' | 'web' | 'db', TestWorkload>> {
  const [api, web, db] = await Promise.all(
    ['api', 'web', 'db'].map((name) => agent.server(name, { labels: { app: name }, listen: ['tcp:8080', 'udp:8081'], ports: [{ name: 'sql', port: 8080 }] })),
  );
  assert.ok(api !== undefined && web !== undefined && db !== undefined);
  return { api, web, db };
}

async function isolateDatabase(): Promise<void> {
  const made = await agent.invoke('network.policy.create', {
    name: 'db-isolation',
    selector: { app: 'db' },
    ingress: [{ port: 8080, protocol: 'tcp', from: { selector: { app: 'api' } } }],
    egress: [],
  });
  assert.deepEqual(made, { namespace: 'default', name: 'db-isolation', success: true, selected: 1, warnings: [], enforced: true });
}

test('only the API reaches the database, directly and through its virtual IP; the database reaches nothing, and itself', async () => {
  const { api, web, db } = await three();
  const vip = await agent.service('db', { selector: { app: 'db' }, port: 80, targetPort: 'sql' });
  const [inApi, inWeb, inDb] = [inside(api), inside(web), inside(db)];
  await isolateDatabase();
  for (const [address, port] of [[db.ip, 8080], [vip, 80]] as const) {
    assert.equal(answered(await inApi.tcp(address, port)).name, 'db');
    assertRefused(await inWeb.tcp(address, port));
    assert.equal(answered(await inDb.tcp(address, port)).name, 'db');
    assert.equal(answered(await host.tcp(address, port)).name, 'db');
  }
  // The kernel tells one peer of so many refusals a second only: what is not told is silent.
  assert.match((await inApi.udp(db.ip, 8081)).error ?? '', /^(EHOSTUNREACH|SILENT)$/);
  assertRefused(await inDb.tcp(api.ip, 8080));
  assertRefused(await inDb.tcp('10.200.1.1', 8443));
  assert.match((await inDb.udp('10.200.1.1', 53)).error ?? '', /^(EHOSTUNREACH|SILENT)$/);
  // A hundred in a row are refused as fast as one.
  const beganMs = performance.now();
  for (let n = 0; n < 100; n += 1) assertRefused(await inWeb.tcp(db.ip, 8080));
  assert.ok(performance.now() - beganMs < 20_000);
});

test('what is denied is explained, the remedy is carried out as it stands, and a probe agrees before and after', async () => {
  await three();
  await isolateDatabase();
  const question = { from: 'web', to: 'db', port: 'sql' };
  const earlier = await agent.invoke('network.probe', question);
  assert.deepEqual([earlier['reachable'], earlier['expected'], earlier['agreesWithModel']], [false, 'deny', true]);
  const { verdict, remedy } = await agent.invoke('network.explain', question);
  assert.equal(verdict, 'deny');
  const calls: unknown = Reflect.get(Object(remedy), 'calls');
  assert.ok(Array.isArray(calls));
  for (const call of calls) await agent.invoke(String(Reflect.get(Object(call), 'command')), Reflect.get(Object(call), 'params'));
  assert.equal((await agent.invoke('network.explain', question))['verdict'], 'allow');
  const afterwards = await agent.invoke('network.probe', question);
  assert.deepEqual([afterwards['reachable'], afterwards['expected'], afterwards['agreesWithModel']], [true, 'allow', true]);
  const silent = await agent.invoke('network.probe', { from: 'api', to: 'web', port: 9 });
  assert.deepEqual([silent['reachable'], silent['expected'], silent['agreesWithModel']], [false, 'allow', null], 'where nobody listens, nothing is told of policies');
});

test('manifests that deny everything and admit the ingress controller: 403 until then, and the way to the node stays open', async () => {
  const namespace = 'gateway';
  await agent.invoke('workload.run', { namespace, name: 'gw', labels: { app: 'gw' }, command: serverCommand('gw', ['http:18789']) });
  await agent.invoke('service.create', { namespace, name: 'gw', selector: { app: 'gw' }, port: 18_789 });
  await agent.invoke('ingress.create', { namespace, name: 'gw', rules: [{ host: 'gw.example.com', service: 'gw' }] });
  await until('the gateway answers', async () => assert.equal(await statusOf('gw.example.com'), 200));
  const policy = (name: string, spec: unknown): string => stringify({ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name, namespace }, spec });
  const denied = await agent.invoke('network.apply', { manifest: policy('deny', { podSelector: {}, policyTypes: ['Ingress', 'Egress'] }) });
  assert.equal(denied['enforced'], true);
  assert.equal(await statusOf('gw.example.com'), 403);
  const admits = policy('admit', { podSelector: { matchLabels: { app: 'gw' } }, ingress: [{ from: [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'ingress-nginx' } } }], ports: [{ port: 18_789 }] }] });
  await agent.invoke('network.apply', { manifest: admits });
  assert.equal(await statusOf('gw.example.com'), 200);
  const probe = await agent.invoke('network.probe', { from: `${namespace}/gw`, to: 'entity:host', port: 8443 });
  assert.deepEqual([probe['reachable'], probe['expected']], [true, 'allow']);
  await agent.invoke('network.policy.delete', { namespace, name: 'admit' });
  assert.equal(await statusOf('gw.example.com'), 403);
  await agent.invoke('network.policy.delete', { namespace, name: 'deny' });
  assert.equal(await statusOf('gw.example.com'), 200);
  await agent.invoke('ingress.delete', { namespace, name: 'gw' });
  await agent.invoke('service.delete', { namespace, name: 'gw' });
  await agent.invoke('workload.stop', { namespace, name: 'gw' });
});

test('labels decide at once: of a workload, and of a namespace', async () => {
  const { web, db } = await three();
  const inWeb = inside(web);
  await isolateDatabase();
  assertRefused(await inWeb.tcp(db.ip, 8080));
  assert.equal((await agent.invoke('workload.update', { name: 'web', labels: { app: 'api' } }))['enforced'], true);
  assert.equal(answered(await inWeb.tcp(db.ip, 8080)).name, 'db');
  await agent.invoke('network.policy.update', { name: 'db-isolation', ingress: [{ from: { namespaceSelector: { team: 'red' } } }] });
  assertRefused(await inWeb.tcp(db.ip, 8080));
  assert.equal((await agent.invoke('namespace.update', { name: 'default', labels: { team: 'red' } }))['enforced'], true);
  assert.equal(answered(await inWeb.tcp(db.ip, 8080)).name, 'db');
});

function statusOf(name: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ host: '127.0.0.1', port: 8443, path: '/', headers: { host: name }, agent: false }, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode ?? 0));
    });
    outgoing.on('error', reject);
    outgoing.end();
  });
}
