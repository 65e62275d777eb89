/** Services on the real kernel: virtual IPs, ports, balancing, hairpin, and endpoints outside. */
import { strict as assert } from 'node:assert';
import { writeFileSync } from 'node:fs';
import { after, afterEach, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { answered, assertRefused, buildOutside, closeEverything, host, inside, openTestAgent, savedRules, serverCommand, until, type OutsideHost, type TestAgent } from './agent-fixture.ts';
import { enterNamespace } from './namespace.ts';

const WEB = { labels: { app: 'web' } };
let agent: TestAgent;
let outside: OutsideHost;

before(async () => {
  await enterNamespace();
  outside = await buildOutside();
  agent = await openTestAgent();
});

afterEach(() => agent.clear());

after(closeEverything);

test('a virtual IP answers on TCP and UDP on one port number, from the host and from a workload, each translated to its own target', async () => {
  const server = await agent.server('web', { ...WEB, listen: ['tcp:8080', 'udp:5300', 'tcp:9090'] });
  const other = await agent.workload('other', { command: ['sleep', '1000'] });
  const vip = await agent.service('web', {
    selector: WEB.labels,
    ports: [
      { name: 'dns', port: 53, targetPort: 8080 },
      { name: 'dns-udp', port: 53, protocol: 'udp', targetPort: 5300 },
      { name: 'metrics', port: 9090 },
    ],
  });
  const within = inside(other);
  for (const [client, source] of [[host, '10.200.1.1'], [within, other.ip]] as const) {
    for (const port of [53, 9090]) assert.deepEqual(answered(await client.tcp(vip, port)), { name: 'web', peer: source });
    assert.deepEqual(answered(await client.udp(vip, 53)), { name: 'web', peer: source });
    assertRefused(await client.tcp(vip, 8080));
    assertRefused(await client.udp(vip, 9090));
  }
  assert.equal(server.ip, '10.200.1.2');
});

test('a target port by name is each workload\'s own number', async () => {
  await Promise.all([
    agent.server('a', { ...WEB, listen: ['tcp:8081'], ports: [{ name: 'http', port: 8081 }] }),
    agent.server('b', { ...WEB, listen: ['tcp:8082'], ports: [{ name: 'http', port: 8082 }] }),
    // Without a port of that name and protocol it is no endpoint.
    agent.server('c', { ...WEB, listen: ['tcp:8083'], ports: [{ name: 'http', port: 8083, protocol: 'udp' }] }),
  ]);
  const vip = await agent.service('web', { selector: WEB.labels, port: 80, targetPort: 'http' });
  const names = await namesOf(40, vip, 80);
  assert.deepEqual([...names.keys()].toSorted(), ['a', 'b']);
});

test('300 connections over three endpoints: each gets between 20 and 47 %', async () => {
  await Promise.all(['a', 'b', 'c'].map((name) => agent.server(name, WEB)));
  const vip = await agent.service('web', { selector: WEB.labels, port: 80, targetPort: 8080 });
  const shares = await namesOf(300, vip, 80);
  assert.equal(shares.size, 3);
  for (const [name, count] of shares) assert.ok(count >= 60 && count <= 141, `${name} got ${count} of 300`);
});

test('a workload reaches itself through its own service, on TCP and UDP, whatever rp_filter is', async () => {
  const server = await agent.server('web', { ...WEB, listen: ['tcp:8080', 'udp:8080'] });
  const vip = await agent.service('web', {
    selector: WEB.labels,
    ports: [
      { name: 'tcp', port: 80, targetPort: 8080 },
      { name: 'udp', port: 80, targetPort: 8080, protocol: 'udp' },
    ],
  });
  const within = inside(server);
  for (const filter of ['0', '1', '2']) {
    for (const name of ['all', server.hostInterface]) writeFileSync(`/proc/sys/net/ipv4/conf/${name}/rp_filter`, filter);
    assert.equal(answered(await within.tcp(vip, 80)).name, 'web', `TCP, rp_filter ${filter}`);
    assert.equal(answered(await within.udp(vip, 80)).name, 'web', `UDP, rp_filter ${filter}`);
  }
  writeFileSync('/proc/sys/net/ipv4/conf/all/rp_filter', '0');
});

test('a client that is a workload\'s own process reaches a service', async () => {
  await agent.server('web', WEB);
  const vip = await agent.service('web', { selector: WEB.labels, port: 80, targetPort: 8080 });
  const script = `require('node:net').connect(80, '${vip}').on('data', (text) => { console.log(String(text)); process.exit(); })`;
  const client = await agent.workload('client', { command: [process.execPath, '-e', script] });
  await until('the client has printed the answer', async () => {
    const { lines } = await agent.invoke('workload.logs', { name: 'client' });
    assert.match(String(lines), new RegExp(`^web ${client.ip} \\d+`));
  });
});

test('explicit endpoints outside are reached with the node\'s address, those inside with the client\'s own', async () => {
  await outside.serve('far', ['tcp:7000', 'udp:7000']);
  const near = await agent.server('near', { listen: ['tcp:7000'] });
  const client = await agent.workload('client', { command: ['sleep', '1000'] });
  const far = await agent.service('far', {
    endpoints: [{ ip: outside.ip }],
    ports: [
      { name: 'tcp', port: 80, targetPort: 7000 },
      { name: 'udp', port: 80, targetPort: 7000, protocol: 'udp' },
    ],
  });
  const both = await agent.service('near', { port: 80, endpoints: [{ ip: near.ip, port: 7000 }] });
  const within = inside(client);
  for (const from of [host, within]) {
    assert.deepEqual(answered(await from.tcp(far, 80)), { name: 'far', peer: '192.0.2.1' });
    assert.deepEqual(answered(await from.udp(far, 80)), { name: 'far', peer: '192.0.2.1' });
  }
  assert.deepEqual(answered(await within.tcp(both, 80)), { name: 'near', peer: client.ip });
});

test('two services share endpoints; deleting one leaves the other', async () => {
  await agent.server('web', WEB);
  const [one, two] = await Promise.all(['one', 'two'].map((name) => agent.service(name, { selector: WEB.labels, port: 80, targetPort: 8080 })));
  assert.equal(answered(await host.tcp(one ?? '', 80)).name, 'web');
  await agent.invoke('service.delete', { name: 'one' });
  assertRefused(await host.tcp(one ?? '', 80));
  assert.equal(answered(await host.tcp(two ?? '', 80)).name, 'web');
});

test('an update leaves no old translation behind: endpoints, target port, port and selector', async () => {
  await Promise.all([
    agent.server('a', { labels: { app: 'a' }, listen: ['tcp:8080', 'tcp:8081'] }),
    agent.server('b', { labels: { app: 'b' }, listen: ['tcp:8080'] }),
  ]);
  const vip = await agent.service('web', { port: 80, targetPort: 8080, endpoints: [{ ip: outside.ip }] });
  await agent.invoke('service.update', { name: 'web', endpoints: null, selector: { app: 'a' } });
  assert.doesNotMatch(await savedRules('-t', 'nat'), /--to-destination 192\.0\.2\.2/);
  assert.equal(answered(await host.tcp(vip, 80)).name, 'a');
  await agent.invoke('service.update', { name: 'web', port: 81, targetPort: 8081 });
  assertRefused(await host.tcp(vip, 80));
  assert.equal(answered(await host.tcp(vip, 81)).name, 'a');
  await agent.invoke('service.update', { name: 'web', selector: { app: 'b' }, targetPort: 8080 });
  assert.deepEqual([...(await namesOf(10, vip, 81)).keys()], ['b']);
  assert.equal((await savedRules('-t', 'nat')).match(/DNAT/g)?.length, 1);
});

test('endpoints follow labels: of a workload that is relabelled, and of one that ends by itself', async () => {
  await agent.server('a', WEB);
  const vip = await agent.service('web', { selector: WEB.labels, port: 80, targetPort: 8080 });
  await agent.invoke('workload.update', { name: 'a', labels: { app: 'other' } });
  assertRefused(await host.tcp(vip, 80));
  await agent.workload('brief', { ...WEB, command: ['sh', '-c', `${shell(serverCommand('brief', ['tcp:8080']))} & sleep 1.5; kill $!`] });
  await until('the new workload answers', async () => assert.equal(answered(await host.tcp(vip, 80)).name, 'brief'));
  await until('its end is noticed', async () => assert.equal((await agent.invoke('workload.get', { name: 'brief' }))['state'], 'exited'));
  await sleep(50);
  assert.equal((await agent.invoke('service.endpoints', { name: 'web' }))['total'], 0);
  assertRefused(await host.tcp(vip, 80));
});

async function namesOf(connections: number, vip: string, port: number): Promise<Map<string, number>> {
  const names = new Map<string, number>();
  for (let n = 0; n < connections; n += 1) {
    const { name } = answered(await host.tcp(vip, port));
    names.set(name, (names.get(name) ?? 0) + 1);
  }
  return names;
}

function shell(argv: readonly string[]): string {
  return argv.map((part) => `'${part.replaceAll("'", `'\\''`)}'`).join(' ');
}
