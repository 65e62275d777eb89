/** The node's network and the workloads' links on the real kernel. */
import { strict as assert } from 'node:assert';
import { before, test } from 'node:test';
import { rm, writeFile } from 'node:fs/promises';
import type { WorkloadLink } from '../../src/compile/kernel-state.ts';
import { openLinks } from '../../src/drivers/link.ts';
import { openNodeNetwork } from '../../src/drivers/node-network.ts';
import { systemAddressesAndRoutes } from '../../src/drivers/system-network.ts';
import { cidr, ipv4 } from '../../src/model/address.ts';
import { enterNamespace, reach, stdoutOf } from './namespace.ts';

const gateway = ipv4.parse('10.200.1.1');
const node = { gateway, clusterIpRange: cidr.parse('10.201.0.0/16'), subnet: cidr.parse('10.200.1.0/24') };
const network = openNodeNetwork();
const links = openLinks();

before(enterNamespace);

test('the node network is made once, repaired when changed by others, and removed without a trace', async () => {
  const [addresses, routes] = [await stdoutOf('ip', '-4', 'addr'), await stdoutOf('ip', '-4', 'route', 'show', 'table', 'all')];
  assert.ok((await network.apply(node)).written > 0);
  assert.equal((await network.apply(node)).written, 0);
  assert.equal((await stdoutOf('cat', '/proc/sys/net/ipv4/ip_forward')).trim(), '1');
  assert.match(await stdoutOf('ip', 'route', 'get', '10.201.3.4'), /^local 10\.201\.3\.4 dev lo .*src 10\.200\.1\.1/);
  await assert.rejects(stdoutOf('ip', 'route', 'get', '10.200.1.77'), /No route to host/);
  for (const damage of ['addr del 10.200.1.1/32 dev lo', 'route del unreachable 10.200.1.0/24', 'route del local 10.201.0.0/16 table local']) {
    await stdoutOf('ip', ...damage.split(' '));
    assert.ok((await network.apply(node)).written > 0, damage);
    assert.equal((await network.apply(node)).written, 0, damage);
  }
  await network.removeAll();
  assert.equal((await network.removeAll()).written, 0);
  assert.equal(await stdoutOf('ip', '-4', 'addr'), addresses);
  assert.equal(await stdoutOf('ip', '-4', 'route', 'show', 'table', 'all'), routes);
});

test('other ranges replace the old ones', async () => {
  await network.apply(node);
  const moved = { gateway: ipv4.parse('10.210.1.1'), clusterIpRange: cidr.parse('10.211.0.0/16'), subnet: cidr.parse('10.210.1.0/24') };
  await network.apply(moved);
  assert.equal((await network.apply(moved)).written, 0);
  assert.doesNotMatch(await stdoutOf('ip', 'route', 'show', 'table', 'all'), /10\.20[01]\./);
  assert.doesNotMatch(await stdoutOf('ip', 'addr'), /10\.20[01]\./);
  await network.apply(node);
});

test('a workload reaches the node and another workload through it, without any IPv6 address', async () => {
  await network.apply(node);
  const [a, b] = [linkOf(2), linkOf(3)];
  await links.ensure(a);
  await links.ensure(b);
  await reach('10.200.1.2');
  await reach('10.200.1.1', a.netns);
  await reach('10.200.1.3', a.netns);
  for (const show of [['addr'], ['-n', a.netns, 'addr']]) {
    const text = await stdoutOf('ip', '-6', ...show);
    assert.doesNotMatch(text, /clawv|eth0/, text);
  }
  const inside = await stdoutOf('ip', '-n', a.netns, '-d', 'link', 'show', 'eth0');
  assert.match(inside, /mtu 1420/);
  assert.match(inside, new RegExp(a.mac));
  assert.match(await stdoutOf('ip', 'link', 'show', a.hostInterface), new RegExp(a.hostMac));
  await Promise.all([links.remove(a), links.remove(b)]);
  assert.deepEqual(await links.list(), { interfaces: [], netns: [] });
});

test('a link is repaired whatever is missing of it, and its namespace is kept', async () => {
  const link = linkOf(4);
  assert.ok((await links.ensure(link)).written > 0);
  assert.equal((await links.ensure(link)).written, 0);
  const identity = await stdoutOf('stat', '-c', '%i', `/run/netns/${link.netns}`);
  const damages = [
    ['link', 'del', link.hostInterface],
    ['link', 'set', link.hostInterface, 'down'],
    ['link', 'set', link.hostInterface, 'mtu', '1300'],
    ['route', 'del', link.ip],
    ['addr', 'del', `${gateway}/32`, 'dev', link.hostInterface],
    ['-n', link.netns, 'link', 'del', 'eth0'],
    ['-n', link.netns, 'link', 'set', 'eth0', 'down'],
    ['-n', link.netns, 'link', 'set', 'lo', 'down'],
    ['-n', link.netns, 'route', 'del', 'default'],
    ['-n', link.netns, 'addr', 'flush', 'dev', 'eth0'],
  ];
  for (const damage of damages) {
    await stdoutOf('ip', ...damage);
    assert.ok((await links.ensure(link)).written > 0, damage.join(' '));
    assert.equal((await links.ensure(link)).written, 0, damage.join(' '));
    await reach('10.200.1.1', link.netns);
  }
  assert.equal(await stdoutOf('stat', '-c', '%i', `/run/netns/${link.netns}`), identity);
  await links.remove(link);
});

test('half-made links are completed or removed', async () => {
  const link = linkOf(5);
  // As a crash leaves them: a name without a namespace, an empty namespace, an interface whose namespace has lost its name.
  const halves: (() => Promise<unknown>)[] = [
    () => writeFile(`/run/netns/${link.netns}`, ''),
    () => stdoutOf('ip', 'netns', 'add', link.netns),
    () => stdoutOf('ip', 'link', 'add', link.hostInterface, 'type', 'veth', 'peer', 'name', 'elsewhere'),
  ];
  for (const make of halves) {
    await make();
    await links.remove(link);
    assert.deepEqual(await links.list(), { interfaces: [], netns: [] });
    await make();
    await links.ensure(link);
    assert.equal((await links.ensure(link)).written, 0);
    await reach('10.200.1.1', link.netns);
    assert.equal((await stdoutOf('ip', 'netns', 'exec', link.netns, 'cat', '/proc/sys/net/ipv4/conf/eth0/accept_redirects')).trim(), '0');
    await links.remove(link);
    await links.remove(link);
  }
  await rm(`/run/netns/${link.netns}`, { force: true });
});

test('a namespace that ends under us is made anew, and a refusal names the line', async () => {
  const link = linkOf(6);
  await links.ensure(link);
  await stdoutOf('ip', 'netns', 'del', link.netns);
  await links.ensure(link);
  assert.equal((await links.ensure(link)).written, 0);
  await assert.rejects(links.ensure({ ...linkOf(7), mtu: 1 }), { code: 'KERNEL_REFUSED', message: /link add clawvd0000007 .*mtu 1 / });
  await links.remove(linkOf(7));
  await links.remove(link);
});

test('a workload without any capability listens on the ports below 1024', async () => {
  const link = linkOf(9);
  await links.ensure(link);
  const powerless = ['setpriv', '--no-new-privs', '--bounding-set=-all', '--inh-caps=-all', process.execPath, '-e', LISTEN] as const;
  assert.equal(await stdoutOf('nsenter', `--net=/run/netns/${link.netns}`, ...powerless), 'listening on 80 and 53\n');
  // Where the limit is the usual one, as here in the network of the node, the same command is refused.
  assert.equal(await stdoutOf(...powerless), 'EACCES\n');
  await links.remove(link);
});

test('what only begins like a name of ours is not ours', async (t) => {
  for (const name of ['claw-test', 'claw-d00000011', 'claw-D0000001']) await stdoutOf('ip', 'netns', 'add', name);
  await stdoutOf('ip', 'link', 'add', 'clawvpn', 'type', 'veth', 'peer', 'name', 'clawvd000000');
  t.after(async () => {
    for (const name of ['claw-test', 'claw-d00000011', 'claw-D0000001']) await stdoutOf('ip', 'netns', 'del', name);
    await stdoutOf('ip', 'link', 'del', 'clawvpn');
  });
  assert.deepEqual(await links.list(), { interfaces: [], netns: [] });
  await links.remove({ hostInterface: 'clawvpn', netns: 'claw-test' });
  assert.match(await stdoutOf('ip', 'netns', 'list'), /claw-test/);
  assert.match(await stdoutOf('ip', 'link'), /clawvpn/);
});

test('the ranges in use are those of others', async () => {
  await network.apply(node);
  await links.ensure(linkOf(8));
  for (const line of ['link add office type veth peer name branch', 'addr add 172.20.5.9/22 dev office', 'link set office up', 'link set branch up', 'route add 10.77.0.0/16 dev office', 'route add blackhole 10.78.0.1'])
    await stdoutOf('ip', ...line.split(' '));
  const foreign = await systemAddressesAndRoutes();
  const used = new Set(foreign.map(({ kind, range, device }) => `${kind} ${range} ${device ?? '-'}`));
  for (const entry of ['address 172.20.4.0/22 office', 'route 172.20.4.0/22 office', 'route 10.77.0.0/16 office', 'route 10.78.0.1/32 -']) {
    assert.ok(used.has(entry), `${entry} is missing of ${[...used].join(', ')}`);
  }
  assert.deepEqual(foreign.filter(({ range }) => range.startsWith('10.20')), []);
  await links.remove(linkOf(8));
});

const LISTEN = `
  require('node:net').createServer().listen(80, function () {
    require('node:dgram').createSocket('udp4').bind(53, () => {
      console.log('listening on 80 and 53');
      process.exit();
    });
  }).on('error', ({ code }) => console.log(code));
`;

function linkOf(host: number): WorkloadLink {
  const id = `d000000${host}`;
  return {
    id,
    hostInterface: `clawv${id}`,
    netns: `claw-${id}`,
    ip: ipv4.parse(`10.200.1.${host}`),
    mac: `02:c1:0a:c8:01:0${host}`,
    hostMac: `02:c0:0a:c8:01:0${host}`,
    gateway,
    prefix: 24,
    owner: 'own',
    peer: 'eth0',
    ranges: [],
    mtu: 1420,
  };
}
