/** Limits on the real kernel and the real socket: what is refused leaves kernel and store as they were, and the agent goes on. */
import { strict as assert } from 'node:assert';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { request } from 'node:http';
import { text } from 'node:stream/consumers';
import { after, afterEach, before, test } from 'node:test';
import { run } from '../../src/drivers/exec.ts';
import { openSqliteStore } from '../../src/store/sqlite.ts';
import { answered, closeEverything, host, openTestAgent, ownRules, savedRules, SOCKET_PATH, STATE_DIRECTORY, until, type TestAgent } from './agent-fixture.ts';
import { enterNamespace, stdoutOf } from './namespace.ts';

const createdAt = '2026-01-01T00:00:00.000Z';
const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index);
let agent: TestAgent | undefined;

before(enterNamespace);

afterEach(async () => {
  // A link that a failed test left would keep the next agent from starting.
  await run(['ip', 'link', 'del', 'vpn0'], { okExitCodes: [0, 1] });
});

after(closeEverything);

test('a range that an interface, a route or another range of ours uses keeps the agent from starting, and nothing was touched', async () => {
  const cases: readonly (readonly [setup: readonly string[], config: unknown, path: string, culprit: string])[] = [
    [['addr add 10.201.5.1/24 dev vpn0'], {}, 'ranges.clusterIp', 'our range clusterIp 10.201.0.0/16 overlaps address 10.201.5.0/24 of vpn0'],
    [['addr add 10.200.7.1/24 dev vpn0'], {}, 'ranges.workload', 'our range workload 10.200.0.0/16 overlaps address 10.200.7.0/24 of vpn0'],
    [['route add 10.100.3.0/24 dev vpn0'], {}, 'ranges.mesh', 'our range mesh 10.100.0.0/16 overlaps route 10.100.3.0/24 of vpn0'],
    [['route add 10.0.0.0/8 dev vpn0'], { ranges: { clusterIp: '10.77.0.0/24' } }, 'ranges.clusterIp', 'our range clusterIp 10.77.0.0/24 overlaps route 10.0.0.0/8 of vpn0'],
    [[], { ranges: { workload: '10.201.4.0/24' } }, 'ranges.clusterIp', 'our range clusterIp 10.201.0.0/16 overlaps our own range workload, 10.201.4.0/24'],
  ];
  for (const [setup, config, path, message] of cases) {
    await run(['ip', 'link', 'add', 'vpn0', 'type', 'veth', 'peer', 'name', 'vpn1']);
    await run(['ip', '-batch', '-'], { input: ['link set vpn0 up', 'link set vpn1 up', ...setup].join('\n') });
    const earlier = await machineState();
    await assert.rejects(openTestAgent(config), (error) => {
      const { code, message: said, path: at, hint } = fieldsOf(error);
      assert.deepEqual([code, at], ['RANGE_OVERLAP', path], String(said));
      assert.ok(String(said).startsWith(message), String(said));
      assert.match(String(hint), /--config/);
      return true;
    });
    assert.deepEqual(await machineState(), earlier);
    assert.ok(!existsSync(`${STATE_DIRECTORY}/node.json`) && !existsSync(SOCKET_PATH));
    await run(['ip', 'link', 'del', 'vpn0']);
  }
  agent = await openTestAgent();
  await agent.server('web', { labels: { app: 'web' } });
  answered(await host.tcp(await agent.service('web', { selector: { app: 'web' }, port: 80, targetPort: 8080 }), 80));
});

test('a call that is too large, nested too deep or no call at all is refused, and the next one works', async () => {
  const deep = `${'['.repeat(200_000)}${']'.repeat(200_000)}`;
  const create = (field: string): string => `{"command":"service.create","params":{"name":"x","port":80,${field}}}`;
  const cases: readonly (readonly [what: string, body: string, code: string, message: RegExp])[] = [
    ['6 MB', create(`"selector":{"a":"${'x'.repeat(6_000_000)}"}`), 'LIMIT_EXCEEDED', /at most 4194304 bytes/],
    ['a large value', create(`"selector":{"a":"${'x'.repeat(3_000_000)}"}`), 'INVALID_ARGUMENT', /selector\.a: .*at most 63/],
    ['a large key', create(`"selector":{"${'x'.repeat(3_000_000)}":"a"}`), 'INVALID_ARGUMENT', /at most 63/],
    ['a deep value', create(`"selector":${deep}`), 'INVALID_ARGUMENT', /selector: expected an object/],
    ['a deep unknown key', create(`"y":${deep}`), 'INVALID_ARGUMENT', /y is no argument/],
    ['deep params', `{"command":"service.create","params":${deep}}`, 'INVALID_ARGUMENT', /expected object/],
    ['a deep command', `{"command":${deep}}`, 'INVALID_ARGUMENT', /names its command/],
    ['an unknown command', `{"command":"${'x'.repeat(3_000_000)}"}`, 'UNKNOWN_COMMAND', /there is no command/],
    ['half a call', '{"command":"service.create"', 'INVALID_ARGUMENT', /not JSON/],
    ['null', 'null', 'INVALID_ARGUMENT', /names its command/],
  ];
  const rules = await ownRules();
  for (const [what, body, code, message] of cases) {
    const answer = await send(body);
    assert.ok(answer.length < 2000, `${what}: an answer of ${answer.length} characters`);
    const error = fieldsOf(JSON.parse(answer));
    assert.equal(error['code'], code, `${what}: ${answer}`);
    assert.match(String(error['message']), message, what);
    assert.ok(String(error['hint']).length > 3, what);
  }
  assert.equal(await ownRules(), rules);
  assert.equal((await opened().invoke('service.list'))['count'], 1);
});

test('with 10,000 services and 50,000 ingress rules one more is refused, the kernel stays as it is, and the agent works on', async (t) => {
  await opened().clear();
  await opened().close();
  const store = await openSqliteStore(`${STATE_DIRECTORY}/store.db`);
  const vip = (n: number): string => `10.201.${100 + (n >> 8)}.${n & 255}`;
  const services = numbers(10_000).flatMap((n) => {
    const key = `services/default/s-${n}`;
    const value = { v: 1, createdAt, namespace: 'default', name: `s-${n}`, ports: [{ port: 80, protocol: 'tcp' }], manyPorts: false, endpoints: [{ ip: '192.0.2.9', port: 80 }], clusterIp: vip(n) };
    return [
      { type: 'put' as const, key, value },
      { type: 'put' as const, key: `ipam/clusterip/${vip(n)}`, value: { v: 1, owner: key } },
    ];
  });
  const ingresses = numbers(250).map((n) => ({
    type: 'put' as const,
    key: `ingresses/default/i-${n}`,
    value: { v: 1, createdAt, namespace: 'default', name: `i-${n}`, tls: false, rules: numbers(200).map((rule) => ({ host: `h${rule}.i${n}.example`, path: '/', service: `s-${n}` })) },
  }));
  await store.txn([], [...services, ...ingresses]);
  await store.close();
  const startedAt = performance.now();
  await opened().reopen();
  t.diagnostic(`programmed in ${(performance.now() - startedAt).toFixed(0)} ms`);
  const rules = await savedRules('-t', 'nat');
  assert.equal(rules.match(/-j DNAT/g)?.length, 10_000);
  const fields = { name: 'one-more', port: 80, endpoints: [{ ip: '192.0.2.9' }] };
  await refused('service.create', fields, 'there are 10000 services, and 10000 is the most');
  await refused('ingress.create', { name: 'one-more', rules: [{ host: 'x.example', service: 's-1' }] }, 'all ingresses together have 50000 rules, and 50000 is the most');
  assert.equal(await savedRules('-t', 'nat'), rules);
  const { allocator } = await opened().invoke('network.status');
  assert.equal(Number(fieldsOf(fieldsOf(fieldsOf(allocator)['stats'])['clusterIps'])['used']), 10_000);
  await until('the proxy serves', async () => assert.equal((await opened().invoke('ingress.get', { name: 'i-249' }))['enforced'], true));
  await opened().invoke('service.delete', { name: 's-1' });
  await opened().service('one-more', { port: 80, endpoints: [{ ip: '192.0.2.9' }] });
  assert.equal((await savedRules('-t', 'nat')).match(/-j DNAT/g)?.length, 10_000);
  await refused('service.create', { ...fields, name: 'two-more' }, 'there are 10000 services, and 10000 is the most');
});

/** The agent's answer to a call that no client of ours would make. */
function send(body: string): Promise<string> {
  return new Promise((resolve, reject) => {
    request({ socketPath: SOCKET_PATH, method: 'POST', path: '/v1/invoke' }, (response) => void text(response).then(resolve, reject))
      .once('error', reject)
      .end(body);
  });
}

function opened(): TestAgent {
  return agent ?? assert.fail('the agent did not open');
}

async function refused(command: string, params: unknown, message: string): Promise<void> {
  await assert.rejects(opened().invoke(command, params), (error) => {
    assert.deepEqual([fieldsOf(error)['code'], fieldsOf(error)['message']], ['LIMIT_EXCEEDED', message]);
    return true;
  });
}

async function machineState(): Promise<string[]> {
  const forwarding = await readFile('/proc/sys/net/ipv4/ip_forward', 'utf8');
  return [await savedRules(), await stdoutOf('ipset', 'list', '-n'), await stdoutOf('ip', 'addr'), await stdoutOf('ip', 'route', 'show', 'table', 'all'), forwarding];
}

/** The fields of an error or of a part of an answer. */
function fieldsOf(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return assert.fail(`${String(value)} has no fields`);
  return { ...Object.fromEntries(Object.entries(value)), ...(value instanceof Error ? { message: value.message } : {}) };
}
