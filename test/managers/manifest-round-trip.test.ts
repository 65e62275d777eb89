/** Random states: what network.export writes, network.apply takes back, on the same node as unchanged, on an empty one as the same records. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { parseAllDocuments } from 'yaml';
import { openDoor, type TestDoor } from './door.ts';

const createdAt = '2026-01-01T00:00:00.000Z';
const RUNS = 30;

const name = fc.constantFrom('a', 'b', 'web', 'on', 'null', '1e3', '0x10', 'a-1');
const namespace = fc.constantFrom('default', 'shop', 'ingress-nginx', '007');
const labels = fc.dictionary(fc.constantFrom('app', 'on', 'example.com/y', '1', 'kubernetes.io/metadata.name'), fc.constantFrom('web', 'true', 'no', '1_000', '0o7', '', '1.5', 'ingress-nginx'), { maxKeys: 3 });
const port = fc.integer({ min: 1, max: 65_535 });
const portName = fc.constantFrom('http', 'y', 'null', '1e3');
const optional = <Value>(key: string, value: fc.Arbitrary<Value>) => fc.option(value, { nil: undefined }).map((given): Record<string, unknown> => (given === undefined ? {} : { [key]: given }));
const merged = (...parts: fc.Arbitrary<object>[]) => fc.tuple(...parts).map((given): object => Object.assign({}, ...given));

const expression = fc.oneof(
  fc.record({ key: fc.constantFrom('app', 'tier'), operator: fc.constantFrom('In', 'NotIn'), values: fc.array(fc.constantFrom('web', 'no', '1'), { minLength: 1, maxLength: 3 }) }),
  fc.record({ key: fc.constantFrom('app', 'tier'), operator: fc.constantFrom('Exists', 'DoesNotExist') }),
);
const selector = merged(optional('matchLabels', labels.filter((map) => Object.keys(map).length > 0)), optional('matchExpressions', fc.array(expression, { minLength: 1, maxLength: 2 })));
const selectorPeer = merged(optional('selector', selector), optional('namespaceSelector', selector)).filter((peer) => Object.keys(peer).length > 0);
const cidrPeer = merged(fc.constantFrom({ cidr: '0.0.0.0/0' }, { cidr: '10.0.0.0/8' }), optional('except', fc.constantFrom(['10.1.0.0/16'], ['10.1.2.3/32', '10.2.0.0/24'])));
const policyPort = fc.oneof(
  merged(fc.record({ protocol: fc.constantFrom('tcp', 'udp', 'sctp') }), optional('port', fc.oneof(port, portName))),
  fc.record({ protocol: fc.constantFrom('tcp', 'udp'), port: fc.integer({ min: 1, max: 1000 }), endPort: fc.integer({ min: 1000, max: 2000 }) }),
);
const rulesWith = (entities: readonly string[]) =>
  fc.array(fc.record({ peers: fc.array(fc.oneof(selectorPeer, cidrPeer, fc.constantFrom(...entities.map((entity) => ({ entity })))), { maxLength: 3 }), ports: fc.array(policyPort, { maxLength: 3 }) }), { maxLength: 3 });
const policy = merged(
  fc.record({ namespace, name, selector, origin: fc.constantFrom('native', 'kubernetes'), mode: fc.constantFrom('enforce', 'enforce', 'audit') }),
  optional('ingress', rulesWith(['host', 'ingress'])),
  optional('egress', rulesWith(['host'])),
);

const explicit = fc.record({ endpoints: fc.array(fc.record({ ip: fc.constantFrom('192.0.2.1', '192.0.2.2') }), { minLength: 1, maxLength: 2 }), selector: fc.constant(undefined) });
const servicePort = merged(fc.record({ port, protocol: fc.constantFrom('tcp', 'udp') }), optional('targetPort', fc.oneof(port, port)));
const single = servicePort.map((one) => ({ ports: [one], manyPorts: false }));
const several = fc
  .uniqueArray(fc.tuple(portName, servicePort), { minLength: 1, maxLength: 3, selector: ([called]) => called })
  .map((given) => ({ ports: given.map(([called, rest], index) => ({ ...rest, name: called, port: 1000 + index })), manyPorts: true }));
const unnamed = servicePort.map((one) => ({ ports: [one], manyPorts: true }));
const service = merged(
  fc.record({ namespace, name, endpoints: fc.constant([]) }),
  fc.oneof(fc.constant({}), labels.filter((map) => Object.keys(map).length > 0).map((map) => ({ selector: map })), explicit),
  fc.oneof(single, several, unnamed),
  optional('sessionAffinity', fc.record({ type: fc.constant('clientIP'), timeoutSeconds: fc.integer({ min: 1, max: 86_400 }) })),
  optional('drainSeconds', fc.integer({ min: 0, max: 3600 })),
);
const checked = merged(fc.record({ namespace, name, endpoints: fc.constant([]), manyPorts: fc.constant(false) }), fc.constant({ ports: [{ port: 80, protocol: 'tcp' }] }), fc.constantFrom(
  { healthCheck: { type: 'tcp', intervalMs: 5000, timeoutMs: 1000, failures: 3, successes: 1 } },
  { healthCheck: { type: 'http', path: '/a?b=c', intervalMs: 100, timeoutMs: 50, failures: 1, successes: 2 } },
));

const rule = fc.record({ host: fc.constantFrom('a.example', '*.a.example', 'b.example', 'null', '1e3'), path: fc.constantFrom('/', '/api', '/api/v1', "/a:b@'c"), service: name });
const ingress = fc.record({
  namespace,
  name,
  tls: fc.boolean(),
  rules: fc.uniqueArray(rule, { minLength: 1, maxLength: 4, selector: ({ host, path }) => `${host}${path}` }),
});

const state = fc.record({
  namespaces: fc.dictionary(namespace, labels),
  services: fc.array(fc.oneof({ weight: 4, arbitrary: service }, checked), { maxLength: 6 }),
  ingresses: fc.array(ingress, { maxLength: 4 }),
  policies: fc.array(policy, { maxLength: 6 }),
});
type State = typeof state extends fc.Arbitrary<infer Value> ? Value : never;

/** An ingress all of whose services are there, which random names seldom are: it needs no kind of our own. */
const plain: State = {
  namespaces: {},
  services: [{ namespace: 'shop', name: 'web', endpoints: [], selector: { app: 'web' }, ports: [{ port: 80, protocol: 'tcp' }], manyPorts: false }],
  ingresses: [{ namespace: 'shop', name: 'web', tls: false, rules: [{ host: 'a.example', path: '/', service: 'web' }] }],
  policies: [],
};

test('an export is taken back as it is', async () => {
  const kinds = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(state, async (given) => {
      await using node = await opened();
      await using empty = await opened();
      await node.door.prefill(recordsOf(given));
      const { manifest } = await node.door.call('network.export', {});
      assert.ok(typeof manifest === 'string');
      if (manifest === '') return;
      const before = await node.door.stored();
      const again = await node.door.call('network.apply', { manifest });
      assert.deepEqual(again['applied'], listed(again).map((entry) => ({ ...entry, action: 'unchanged' })));
      assert.deepEqual(await node.door.stored(), before);
      await empty.door.call('network.apply', { manifest });
      assert.deepEqual(await nouns(empty.door), await nouns(node.door));
      assert.equal((await empty.door.call('network.export', {}))['manifest'], manifest);
      for (const document of parseAllDocuments(manifest)) {
        const kind = `${String(document.get('apiVersion'))} ${String(document.get('kind'))}`;
        kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
      }
    }),
    { numRuns: RUNS, examples: [[plain]] },
  );
  const forms = ['v1 Namespace', 'v1 Service', 'clawbernetes.io/v1 Service', 'networking.k8s.io/v1 Ingress', 'clawbernetes.io/v1 Ingress', 'networking.k8s.io/v1 NetworkPolicy', 'clawbernetes.io/v1 NetworkPolicy'];
  assert.deepEqual([...kinds.keys()].toSorted(), forms.toSorted(), 'each form was met');
});

/** As they lie in the store; of two with the same name the later one. */
function recordsOf({ namespaces, services, ingresses, policies }: State): Record<string, unknown> {
  const records = new Map<string, unknown>();
  const put = (kind: string, parts: object, index?: number): void => {
    const { namespace: own, name: called } = Object.assign({ namespace: '', name: '' }, parts);
    const key = `${kind}/${own}/${called}`;
    const address = index === undefined ? {} : { clusterIp: `10.201.1.${index}` };
    records.set(key, { v: 1, createdAt, ...parts, ...address });
    if (!records.has(`namespaces/${own}`)) records.set(`namespaces/${own}`, { v: 1, createdAt, name: own, labels: namespaces[own] ?? {} });
  };
  for (const [called, given] of Object.entries(namespaces)) {
    const { 'kubernetes.io/metadata.name': _, ...free } = given;
    namespaces[called] = free;
    records.set(`namespaces/${called}`, { v: 1, createdAt, name: called, labels: free });
  }
  for (const [index, one] of services.entries()) put('services', one, index + 1);
  for (const one of ingresses) put('ingresses', one);
  for (const one of policies) put('policies', one);
  return Object.fromEntries(records);
}

/** All records of nouns, without what is a node's own. */
async function nouns(door: TestDoor): Promise<Record<string, unknown>> {
  const stored = (await door.stored()).filter(({ key }) => !key.startsWith('ipam/'));
  return Object.fromEntries(
    stored.map(({ key, value }) => {
      const { createdAt: _createdAt, clusterIp: _clusterIp, ...rest }: Record<string, unknown> = Object.assign({}, value);
      return [key, rest];
    }),
  );
}

function listed({ applied }: Record<string, unknown>): readonly object[] {
  return Array.isArray(applied) ? applied : assert.fail('nothing was applied');
}

async function opened() {
  const door = await openDoor();
  return { door, [Symbol.asyncDispose]: () => door.close() };
}
