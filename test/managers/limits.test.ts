/** Every limit, met through the door: the error says what, where and what next, nothing is stored, and then work goes on. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { ClawError } from '../../src/errors.ts';
import { openDoor, type TestDoor } from './door.ts';

const MOST = 10_000;
const createdAt = '2026-01-01T00:00:00.000Z';
const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index);
const vip = (n: number): string => `10.201.${100 + (n >> 8)}.${n & 255}`;
const service = (n: number) => ({
  v: 1,
  createdAt,
  namespace: 'default',
  name: `s-${n}`,
  ports: [{ port: 80, protocol: 'tcp' }],
  manyPorts: false,
  endpoints: [],
  clusterIp: vip(n),
});
const ingress = (n: number, rules: number) => ({
  v: 1,
  createdAt,
  namespace: 'default',
  name: `i-${n}`,
  rules: numbers(rules).map((rule) => ({ host: `h${rule}.i${n}.example`, path: '/', service: 'a' })),
  tls: false,
});
const workload = (n: number) => ({
  v: 1,
  createdAt,
  id: n.toString(16).padStart(8, '0'),
  namespace: 'default',
  name: `w-${n}`,
  labels: {},
  command: ['true'],
  env: {},
  ports: [],
  runtime: 'process',
  restart: 'no',
  ip: `10.200.${2 + (n >> 8)}.${n & 255}`,
  node: 'elsewhere',
  stopping: false,
});
const namespace = (n: number) => ({ v: 1, createdAt, name: `n-${n}`, labels: {} });

test('the 10,001st service, ingress, workload and namespace, named or implied', async (t) => {
  const door = await opened(t);
  await door.prefill({
    'namespaces/default': { v: 1, createdAt, name: 'default', labels: {} },
    ...Object.fromEntries(numbers(MOST - 1).map((n) => [`services/default/s-${n}`, service(n)])),
    ...Object.fromEntries(numbers(MOST - 1).map((n) => [`ipam/clusterip/${vip(n)}`, { v: 1, owner: `services/default/s-${n}` }])),
    ...Object.fromEntries(numbers(MOST - 1).map((n) => [`ingresses/default/i-${n}`, ingress(n, 1)])),
    ...Object.fromEntries(numbers(MOST - 1).map((n) => [`workloads/default/w-${n}`, workload(n)])),
    ...Object.fromEntries(numbers(MOST - 2).map((n) => [`namespaces/n-${n}`, namespace(n)])),
  });
  const cases = [
    { kind: 'services', create: 'service.create', params: { port: 80 }, remove: 'service.delete' },
    { kind: 'ingresses', create: 'ingress.create', params: { rules: [{ host: 'x.example', service: 'a' }] }, remove: 'ingress.delete' },
    { kind: 'workloads', create: 'workload.run', params: { command: ['true'] }, remove: undefined },
    { kind: 'namespaces', create: 'namespace.create', params: {}, remove: 'namespace.delete' },
  ] as const;
  for (const { kind, create, params, remove } of cases) {
    await door.call(create, { name: 'last', ...params });
    const hint = `${kind === 'workloads' ? 'Stop' : 'Delete'} ${kind} that are no longer needed.`;
    await refused(door, { call: [create, { name: 'one-more', ...params }], expected: { code: 'LIMIT_EXCEEDED', message: `there are 10000 ${kind}, and 10000 is the most`, path: 'name', hint } });
    if (remove === undefined) continue;
    await door.call(remove, { name: 'last' });
    await door.call(create, { name: 'one-more', ...params });
  }
  await door.call('ingress.delete', { name: 'one-more' });
  await refused(door, {
    call: ['ingress.create', { name: 'a', namespace: 'implied', rules: [{ host: 'x.example', service: 'a' }] }],
    expected: { code: 'LIMIT_EXCEEDED', message: 'there are 10000 namespaces, and 10000 is the most', path: 'namespace', hint: 'Delete namespaces that are no longer needed.' },
  });
  await door.call('namespace.delete', { name: 'one-more' });
  await door.call('ingress.create', { name: 'a', namespace: 'implied', rules: [{ host: 'x.example', service: 'a' }] });
});

test('the 50,001st rule of all ingresses together', async (t) => {
  const door = await opened(t);
  await door.prefill({
    'namespaces/default': { v: 1, createdAt, name: 'default', labels: {} },
    ...Object.fromEntries(numbers(249).map((n) => [`ingresses/default/i-${n}`, ingress(n, 200)])),
    'ingresses/default/i-249': ingress(249, 199),
  });
  const rule = (host: string) => ({ host, service: 'a' });
  const expected = { code: 'LIMIT_EXCEEDED', message: 'all ingresses together have 49999 rules, and 50000 is the most', path: 'rules', hint: 'Delete ingresses that are no longer needed, or give fewer rules.' };
  await refused(door, { call: ['ingress.create', { name: 'x', rules: [rule('a.example'), rule('b.example')] }], expected });
  await refused(door, { call: ['ingress.update', { name: 'i-249', rules: numbers(200).map((n) => rule(`u${n}.example`)).concat(rule('v.example')) }], expected: { code: 'INVALID_ARGUMENT', path: 'rules' } });
  await door.call('ingress.create', { name: 'x', rules: [rule('a.example')] });
  await refused(door, { call: ['ingress.update', { name: 'x', rules: [rule('a.example'), rule('b.example')] }], expected: { code: 'LIMIT_EXCEEDED', path: 'rules' } });
  // What does not add rules is still possible.
  await door.call('ingress.update', { name: 'x', rules: [rule('c.example')] });
  await door.call('ingress.update', { name: 'i-0', rules: [rule('d.example')] });
  await door.call('ingress.update', { name: 'x', rules: [rule('c.example'), rule('b.example')] });
});

test('a full range of virtual IPs, and a full workload subnet', async (t) => {
  const door = await opened(t, { clusterIp: '10.202.0.0/29' });
  for (const n of numbers(6)) await door.call('service.create', { name: `s-${n}`, port: 80 });
  await refused(door, {
    call: ['service.create', { name: 'x', namespace: 'implied', port: 80 }],
    expected: { code: 'RANGE_FULL', message: 'no address is left in 10.202.0.0/29: all 6 are taken', path: 'ranges.clusterIp', hint: 'Delete services that are no longer needed.' },
  });
  const used = (await door.stored()).filter(({ key }) => key.startsWith('ipam/clusterip/'));
  assert.equal(used.length, 6);
  await door.call('service.delete', { name: 's-3' });
  assert.equal((await door.call('service.create', { name: 'x', port: 80 }))['clusterIp'], '10.202.0.4');

  for (const n of numbers(253)) await door.call('workload.run', { name: `w-${n}`, command: ['true'] });
  const started = door.started();
  await refused(door, {
    call: ['workload.run', { name: 'x', namespace: 'implied', command: ['true'] }],
    expected: { code: 'RANGE_FULL', message: 'no address is left in 10.200.1.0/24: all 253 are taken', path: 'ranges.workload', hint: 'Stop workloads that are no longer needed.' },
  });
  assert.equal(door.started(), started);
});

test('names, labels, hosts and lists that are too long', async (t) => {
  const door = await opened(t);
  const long = (count: number): string => 'x'.repeat(count);
  const create = { name: 'a', port: 80 };
  const rules = (rule: Record<string, string>) => ({ name: 'a', rules: [{ host: 'a.example', service: 'a', ...rule }] });
  const run = { name: 'a', command: ['true'] };
  const cases: readonly (readonly [command: string, params: unknown, path: string, message: RegExp])[] = [
    ['service.create', { ...create, name: long(64) }, 'name', /at most 63 characters, this one has 64/],
    ['service.create', { ...create, namespace: long(64) }, 'namespace', /at most 63 characters, this one has 64/],
    ['namespace.create', { name: long(64) }, 'name', /at most 63 characters, this one has 64/],
    ['workload.run', { ...run, name: long(64) }, 'name', /at most 63 characters, this one has 64/],
    ['ingress.create', { ...rules({}), name: long(64) }, 'name', /at most 63 characters, this one has 64/],
    ['ingress.create', rules({ service: long(64) }), 'rules[0].service', /at most 63 characters, this one has 64/],
    ['service.create', { ...create, selector: { [long(64)]: 'v' } }, `selector.${long(64)}`, /the name at most 63/],
    ['service.create', { ...create, selector: { [`${long(254)}/k`]: 'v' } }, `selector.${long(254)}/k`, /at most 253 characters/],
    ['service.create', { ...create, selector: { [long(5000)]: 'v' } }, `selector.${long(317)}...`, /the name at most 63/],
    ['service.create', { ...create, selector: { k: long(64) } }, 'selector.k', /at most 63/],
    ['service.create', { ...create, selector: Object.fromEntries(numbers(65).map((n) => [`k${n}`, 'v'])) }, 'selector', /at most 64 labels are allowed, these are 65/],
    ['workload.run', { ...run, labels: { k: long(64) } }, 'labels.k', /at most 63/],
    ['service.create', { name: 'a', ports: [{ name: long(16), port: 80 }] }, 'ports[0].name', /at most 15 characters, this one has 16/],
    ['workload.run', { ...run, ports: [{ name: long(16), port: 80 }] }, 'ports[0].name', /at most 15 characters, this one has 16/],
    ['service.create', { name: 'a', ports: numbers(65).map((n) => ({ name: `p${n}`, port: n + 1 })) }, 'ports', /at most 64 are allowed, these are 65/],
    ['service.create', { ...create, endpoints: numbers(257).map((n) => ({ ip: `192.0.${n >> 8}.${n & 255}` })) }, 'endpoints', /at most 256 are allowed, these are 257/],
    ['workload.run', { ...run, ports: numbers(65).map((n) => ({ port: n + 1 })) }, 'ports', /at most 64 are allowed, these are 65/],
    ['workload.run', { ...run, command: numbers(257).map(String) }, 'command', /at most 256 are allowed, these are 257/],
    ['ingress.create', { name: 'a', rules: numbers(201).map((n) => ({ host: `h${n}.example`, service: 'a' })) }, 'rules', /at most 200 are allowed, these are 201/],
    ['ingress.create', rules({ host: `${long(64)}.example` }), 'rules[0].host', /is a DNS name/],
    ['ingress.create', rules({ host: `${'abc.'.repeat(63)}ab` }), 'rules[0].host', /at most 253 characters, this one has 254/],
    ['ingress.create', rules({ path: `/${long(1024)}` }), 'rules[0].path', /at most 1024 characters/],
    ['service.list', { limit: 501 }, 'limit', /501/],
    ['service.list', { cursor: long(201) }, 'cursor', /200/],
    ['service.list', { cursor: 'not a cursor' }, 'cursor', /"not a cursor" is no cursor/],
    ['workload.list', { cursor: Buffer.from('../../etc/passwd').toString('base64url') }, 'cursor', /is no cursor/],
  ];
  for (const [command, params, path, message] of cases) {
    const { message: said } = await refused(door, { call: [command, params], expected: { code: 'INVALID_ARGUMENT', path } });
    assert.match(said, message);
    assert.ok(said.length < 500, `${said.length} characters`);
  }
  const longest = await door.call('service.create', { name: long(63), namespace: long(63), selector: { [`${long(253)}/${long(63)}`]: long(63) }, ports: [{ name: long(15), port: 80 }] });
  assert.equal(longest['success'], true);
});

test('a command or an environment that no process can be given takes no address', async (t) => {
  const door = await opened(t);
  const run = { name: 'a', command: ['true'] };
  const secret = 's3cret'.repeat(30_000);
  const cases: readonly (readonly [params: unknown, path: string, message: RegExp])[] = [
    [{ ...run, command: ['echo', 'x'.repeat(200_000)] }, 'command', /argument 1 has 200000 bytes, at most 131040/],
    [{ ...run, command: ['echo', ...numbers(20).map(() => 'x'.repeat(100_000))] }, 'command', /at most 1900000/],
    [{ ...run, env: { A: secret } }, 'env', /A has 180002 bytes with its value, at most 131040/],
    [{ ...run, env: Object.fromEntries(numbers(1001).map((n) => [`V${n}`, ''])) }, 'env', /1001 variables are given, at most 1000/],
    [{ ...run, env: { ['V'.repeat(101)]: '' } }, 'env', /has 101 characters, at most 100/],
  ];
  for (const [params, path, message] of cases) {
    const { message: said } = await refused(door, { call: ['workload.run', params], expected: { code: 'LIMIT_EXCEEDED', path, hint: 'Let the command read what is long from a file.' } });
    assert.match(said, message);
    assert.ok(!said.includes('s3cret'));
  }
  assert.equal(door.started(), 0);
  assert.equal((await door.call('workload.run', run))['meshIp'], '10.200.1.2');
});

async function opened(t: TestContext, options: Parameters<typeof openDoor>[0] = {}): Promise<TestDoor> {
  const door = await openDoor(options);
  t.after(() => door.close());
  return door;
}

interface Refusal {
  readonly call: readonly [command: string, params: unknown];
  readonly expected: { readonly code: string; readonly message?: string; readonly path: string; readonly hint?: string };
}

/** The error, after a look that it changed nothing of what is stored. */
async function refused(door: TestDoor, { call: [command, params], expected }: Refusal): Promise<ClawError> {
  const before = await door.stored();
  const error = await door.call(command, params).then(
    () => assert.fail(`${command} was carried out`),
    (thrown: unknown) => (thrown instanceof ClawError ? thrown : assert.fail(String(thrown))),
  );
  const told: Record<string, unknown> = { ...error.toJSON() };
  for (const [field, value] of Object.entries(expected)) assert.equal(told[field], value, `${field} of: ${error.message}`);
  assert.ok(error.hint !== undefined && error.hint !== '', error.message);
  assert.deepEqual(await door.stored(), before);
  return error;
}
