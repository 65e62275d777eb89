/** Who may send through the node at all: unknown interfaces, foreign hosts, spoofed sources, broken streams; on the real kernel. */
import { strict as assert } from 'node:assert';
import { after, before, test } from 'node:test';
import { run } from '../../src/drivers/exec.ts';
import { answered, buildOutside, closeEverything, host, inside, openTestAgent, packets, savedRules, until, type OutsideHost, type TestAgent, type TestWorkload } from './agent-fixture.ts';
import type { Client } from './agent-prober.ts';
import { IPTABLES } from './backend.ts';
import { enterNamespace, stdoutOf } from './namespace.ts';

const QUICK = { timeoutMs: 700 };
let agent: TestAgent;
let outside: OutsideHost;
let server: TestWorkload;
let other: TestWorkload;
let inServer: Client;
let inOther: Client;
let vip: string;

before(async () => {
  await enterNamespace();
  outside = await buildOutside();
  agent = await openTestAgent();
  [server, other] = await Promise.all([agent.server('server', { labels: { app: 'web' }, listen: ['tcp:8080', 'udp:8080'] }), agent.server('other')]);
  [inServer, inOther] = [inside(server), inside(other)];
  vip = await agent.service('web', { selector: { app: 'web' }, port: 80, targetPort: 8080 });
  await outside.serve('far', ['tcp:7000']);
});

after(closeEverything);

test('our jumps are the first rules, and what belongs to a workload never returns to foreign rules', async () => {
  const rules = (await savedRules('-t', 'filter')).split('\n');
  for (const chain of ['INPUT', 'FORWARD', 'OUTPUT']) assert.match(rules.find((line) => line.startsWith(`-A ${chain} `)) ?? '', /-j CLAW-/);
  const ours = rules.filter((line) => line.startsWith('-A CLAW-NETPOL '));
  assert.equal(ours.at(0), '-A CLAW-NETPOL ! -i clawv+ ! -o clawv+ -g CLAW-ELSEWHERE');
  assert.equal(ours.at(-1), '-A CLAW-NETPOL -j ACCEPT');
  assert.ok(!ours.some((line) => line.endsWith('-j RETURN')));
});

test('a foreign DROP behind our jump, as policy and as rule, does not cut workloads off', async () => {
  await run([IPTABLES, '-P', 'FORWARD', 'DROP']);
  await run([IPTABLES, '-A', 'FORWARD', '-j', 'DROP']);
  try {
    assert.deepEqual(answered(await inOther.tcp(server.ip, 8080)), { name: 'server', peer: other.ip });
    assert.equal(answered(await inOther.tcp(vip, 80)).name, 'server');
    assert.deepEqual(answered(await inOther.tcp(outside.ip, 7000)), { name: 'far', peer: '192.0.2.1' });
  } finally {
    await run([IPTABLES, '-D', 'FORWARD', '-j', 'DROP']);
    await run([IPTABLES, '-P', 'FORWARD', 'ACCEPT']);
  }
});

test('a foreign host with a route through the node is dropped, and counted, when it opens a connection to a workload or a virtual IP', async () => {
  const earlier = await packets('filter', 'CLAW-OUTSIDE -j DROP');
  assert.equal((await outside.client.tcp(server.ip, 8080, QUICK)).error, 'SILENT');
  const between = await packets('filter', 'CLAW-OUTSIDE -j DROP');
  assert.ok(between > earlier);
  assert.equal((await outside.client.tcp(vip, 80, QUICK)).error, 'SILENT');
  assert.ok((await packets('filter', 'CLAW-OUTSIDE -j DROP')) > between);
  const input = await packets('filter', 'CLAW-INPUT -j DROP');
  assert.equal((await outside.client.tcp('10.201.99.99', 80, QUICK)).error, 'SILENT');
  assert.ok((await packets('filter', 'CLAW-INPUT -j DROP')) > input);
  assert.equal((await outside.client.udp(server.ip, 8080, QUICK)).error, 'SILENT');
  const far = await agent.service('far', { port: 80, endpoints: [{ ip: outside.ip, port: 7000 }] });
  assert.equal((await outside.client.tcp(far, 80, QUICK)).error, 'SILENT', 'through a virtual IP to an endpoint outside');
});

test('a workload may open connections to the outside, and the answers come back to it alone', async () => {
  assert.deepEqual(await inOther.hold('far', outside.ip, 7000).then(answered), { name: 'far', peer: '192.0.2.1' });
  assert.equal((await inOther.echo('far', 'still there')).answer, 'still there');
});

test('a spoofed source address or MAC is dropped before anything else, and counted', async () => {
  const rule = `CLAW-SPOOF-${other.id.charAt(0)} -j DROP`;
  const earlier = await packets('raw', rule);
  await run(['ip', '-n', other.netns, 'addr', 'add', '10.200.1.99/32', 'dev', 'eth0']);
  assert.equal((await inOther.tcp(server.ip, 8080, { ...QUICK, from: '10.200.1.99' })).error, 'SILENT');
  await run(['ip', '-n', other.netns, 'addr', 'add', `${server.ip}/32`, 'dev', 'eth0']);
  assert.equal((await inOther.udp('10.200.1.1', 8080, { ...QUICK, from: server.ip })).error, 'SILENT');
  const between = await packets('raw', rule);
  assert.ok(between >= earlier + 2, `${between - earlier} packets were counted`);
  await run(['ip', '-n', other.netns, 'addr', 'del', `${server.ip}/32`, 'dev', 'eth0']);
  await run(['ip', '-n', other.netns, 'addr', 'del', '10.200.1.99/32', 'dev', 'eth0']);
  const mac = (await stdoutOf('ip', '-n', other.netns, '-br', 'link', 'show', 'eth0')).split(/\s+/)[2] ?? '';
  await run(['ip', '-n', other.netns, 'link', 'set', 'eth0', 'address', '02:00:00:00:00:99']);
  assert.equal((await inOther.tcp(server.ip, 8080, QUICK)).error, 'SILENT');
  assert.ok((await packets('raw', rule)) > between);
  await run(['ip', '-n', other.netns, 'link', 'set', 'eth0', 'address', mac]);
  await until('the honest workload is heard again', async () => answered(await inOther.tcp(server.ip, 8080, QUICK)));
});

test('a TCP stream that conntrack no longer knows is reset, not taken up in its middle', async () => {
  for (const [key, address, port] of [['direct', server.ip, 8080], ['vip', vip, 80], ['outside', outside.ip, 7000]] as const) {
    answered(await inOther.hold(key, address, port));
    await run(['conntrack', '-D', '-p', 'tcp', '--orig-src', other.ip]);
    assert.equal((await inOther.echo(key)).error, 'ECONNRESET', key);
  }
});

test('an interface of our name that the agent does not know is dropped in every direction, while the agent runs and while it is closed', async () => {
  const [stranger, address] = ['clawvdeadbeef', '10.200.1.250'];
  const build = async (): Promise<Client> => {
    await run(['ip', 'netns', 'add', 'stranger']);
    await run(['ip', '-batch', '-'], {
      input: `link add ${stranger} type veth peer name eth0 netns stranger\naddr add 10.200.1.1/32 dev ${stranger}\nlink set ${stranger} up\nroute add ${address}/32 dev ${stranger}\n`,
    });
    await run(['ip', '-n', 'stranger', '-batch', '-'], {
      input: `link set lo up\naddr add ${address}/32 dev eth0\nlink set eth0 up\nroute add 10.200.1.1/32 dev eth0 scope link\nroute add default via 10.200.1.1 dev eth0\n`,
    });
    return inside({ netns: 'stranger' });
  };
  const client = await build();
  const silent = async (): Promise<void> => {
    for (const [target, port] of [[server.ip, 8080], [vip, 80], [outside.ip, 7000], ['10.200.1.1', 8443]] as const) {
      assert.equal((await client.tcp(target, port, { timeoutMs: 300 })).error, 'SILENT', `to ${target}`);
    }
    for (const from of [inServer, outside.client]) assert.equal((await from.tcp(address, 8080, { timeoutMs: 300 })).error, 'SILENT');
  };
  // A workload whose id happens to begin with the same digit brings a second level of the dispatch, which drops it then.
  const sameDigit = [server, other].some(({ id }) => id.startsWith('d'));
  const drop = sameDigit ? 'CLAW-SPOOF-d -j DROP' : 'CLAW-SPOOF -j DROP';
  const earlier = await packets('raw', drop);
  await silent();
  assert.ok((await packets('raw', drop)) > earlier);
  await agent.close();
  await silent();
  assert.deepEqual(answered(await inOther.tcp(server.ip, 8080)), { name: 'server', peer: other.ip }, 'known ones are not dropped meanwhile');
  await run(['ip', 'link', 'del', stranger]);
  await run(['ip', 'netns', 'del', 'stranger']);
  await agent.reopen();
});

test('exposeTo lets foreign hosts of its ranges in, and established connections live on when it is taken back', async () => {
  await agent.close();
  await agent.reopen({ exposeTo: ['192.0.2.0/24'] });
  assert.deepEqual(answered(await outside.client.tcp(server.ip, 8080)), { name: 'server', peer: outside.ip });
  assert.deepEqual(answered(await outside.client.hold('exposed', vip, 80)), { name: 'server', peer: outside.ip });
  const { error, ms } = await outside.client.tcp('10.201.99.99', 80);
  assert.equal(error, 'ECONNREFUSED');
  assert.ok(ms < 250);
  await agent.close();
  await agent.reopen();
  assert.equal((await outside.client.tcp(server.ip, 8080, QUICK)).error, 'SILENT');
  assert.equal((await outside.client.echo('exposed', 'still')).answer, 'still');
  assert.equal(answered(await host.tcp(vip, 80)).name, 'server');
});
