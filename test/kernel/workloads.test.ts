/** A workload's own network on the real kernel: address, gateway, MTU, no IPv6, masquerade, and its address' life. */
import { strict as assert } from 'node:assert';
import { after, afterEach, before, test } from 'node:test';
import { z } from 'zod';
import { run } from '../../src/drivers/exec.ts';
import {
  answered,
  assertRefused,
  buildOutside,
  closeEverything,
  host,
  inside,
  openTestAgent,
  processesRunning,
  startAgentProcess,
  until,
  type OutsideHost,
  type TestAgent,
} from './agent-fixture.ts';
import { enterNamespace, stdoutOf } from './namespace.ts';

const IDLE = ['sleep', '1000'];
const listed = z.object({ workloads: z.array(z.object({ id: z.string(), name: z.string(), meshIp: z.string(), state: z.string() })) });
let agent: TestAgent;
let outside: OutsideHost;

before(async () => {
  await enterNamespace();
  outside = await buildOutside();
  await outside.serve('far', ['tcp:7000', 'udp:7000']);
  agent = await openTestAgent();
});

afterEach(() => agent.clear());

after(closeEverything);

test('a workload has its own IP, the gateway, an MTU that fits the mesh, loopback, and reaches neighbours only through the gateway', async () => {
  const [one, two] = await Promise.all([agent.server('one'), agent.workload('two', { command: IDLE })]);
  const link = await stdoutOf('ip', '-n', one.netns, 'addr', 'show', 'dev', 'eth0');
  assert.match(link, /mtu 1420/);
  assert.match(link, new RegExp(`inet ${one.ip}/24`));
  assert.match(await stdoutOf('ip', 'link', 'show', one.hostInterface), /mtu 1420/);
  const routes = await stdoutOf('ip', '-n', one.netns, 'route');
  assert.deepEqual(routes.trim().split('\n').map((line) => line.trim()), ['default via 10.200.1.1 dev eth0', '10.200.1.1 dev eth0 scope link']);
  assert.match(await stdoutOf('ip', '-n', one.netns, 'route', 'get', two.ip), /via 10\.200\.1\.1/);
  const within = inside(one);
  assert.deepEqual(answered(await within.tcp('127.0.0.1', 8080)), { name: 'one', peer: '127.0.0.1' });
  assert.deepEqual(answered(await within.tcp(one.ip, 8080)), { name: 'one', peer: one.ip });
  await within.tcp(two.ip, 8080);
  const neighbours = await stdoutOf('ip', '-n', one.netns, 'neigh');
  assert.deepEqual(neighbours.trim().split('\n').map((line) => line.split(' ')[0]), ['10.200.1.1']);
});

test('no interface of a workload speaks IPv6: no address, no route, no packet to the neighbours on the link', async () => {
  const made = await agent.workload('one', { command: IDLE });
  assert.equal(await stdoutOf('ip', '-6', '-n', made.netns, 'addr'), '');
  assert.equal(await stdoutOf('ip', '-6', '-n', made.netns, 'route', 'show', 'table', 'all'), '');
  assert.equal(await stdoutOf('ip', '-6', 'addr', 'show', 'dev', made.hostInterface), '');
  const send = "const s = require('node:dgram').createSocket('udp6'); s.on('error', () => process.exit(7)); s.send('x', 9, 'ff02::1%eth0', (e) => process.exit(e ? 7 : 0))";
  const { exitCode } = await run(['nsenter', `--net=/run/netns/${made.netns}`, process.execPath, '-e', send], { okExitCodes: [0, 7] });
  assert.equal(exitCode, 7);
});

test('between workloads the source address stays, on TCP and UDP; to the outside it is the node\'s', async () => {
  const [server, client] = await Promise.all([agent.server('server', { listen: ['tcp:8080', 'udp:8080'] }), agent.workload('client', { command: IDLE })]);
  const within = inside(client);
  assert.deepEqual(answered(await within.tcp(server.ip, 8080)), { name: 'server', peer: client.ip });
  assert.deepEqual(answered(await within.udp(server.ip, 8080)), { name: 'server', peer: client.ip });
  assert.deepEqual(answered(await within.tcp(outside.ip, 7000)), { name: 'far', peer: '192.0.2.1' });
  assert.deepEqual(answered(await within.udp(outside.ip, 7000)), { name: 'far', peer: '192.0.2.1' });
});

test('an address of the subnet that no workload has is unreachable at once, from the host and from a workload', async () => {
  const { netns } = await agent.workload('one', { command: IDLE });
  const within = inside({ netns });
  for (const client of [host, within]) assertRefused(await client.tcp('10.200.1.77', 80), ['EHOSTUNREACH']);
  // A UDP socket of a workload hears of it only if it asks for such errors (IP_RECVERR); the host's does in any case.
  assertRefused(await host.udp('10.200.1.77', 80), ['EHOSTUNREACH']);
});

test('stop ends the process, removes interface and namespace, and its address is not given again at once', async () => {
  const first = await agent.server('one');
  answered(await host.tcp(first.ip, 8080));
  await agent.stop('one');
  assert.deepEqual(await processesRunning('one\0tcp:8080'), []);
  assert.doesNotMatch(await stdoutOf('ip', 'link'), /clawv/);
  assert.equal(await stdoutOf('ip', 'netns', 'list').then((text) => text.includes('claw-')), false);
  assert.doesNotMatch((await run(['conntrack', '-L'])).stdout, new RegExp(`=${first.ip} `));
  assertRefused(await host.tcp(first.ip, 8080), ['EHOSTUNREACH']);
  const second = await agent.workload('one', { command: IDLE });
  assert.equal(lastOctet(second.ip), lastOctet(first.ip) + 1);
});

test('after SIGKILL of the agent in the middle of starts and stops no address is given twice, and all that is listed runs', async () => {
  await agent.close();
  for (const delayMs of [40, 150, 400]) {
    const child = await startAgentProcess();
    const calls = numbers(4).map((n) => agent.invoke('workload.run', { name: `w-${delayMs}-${n}`, command: IDLE }));
    const stops = (listed.parse(await agent.invoke('workload.list')).workloads).slice(0, 1).map(({ name }) => agent.invoke('workload.stop', { name }));
    const settled = Promise.allSettled([...calls, ...stops]);
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    await child.kill();
    await settled;
  }
  await agent.reopen();
  const workloads = await until('everything that is listed runs', async () => {
    const found = listed.parse(await agent.invoke('workload.list')).workloads;
    assert.ok(found.every(({ state }) => state === 'running'), JSON.stringify(found.map(({ state }) => state)));
    return found;
  });
  const more = await Promise.all(numbers(3).map((n) => agent.workload(`more-${n}`, { command: IDLE })));
  const held = [...workloads.map(({ id, meshIp }) => ({ id, ip: meshIp })), ...more.map(({ id, ip }) => ({ id, ip }))];
  assert.equal(new Set(held.map(({ ip }) => ip)).size, held.length);
  const netns = (await stdoutOf('ip', 'netns', 'list')).split('\n').filter((line) => line.startsWith('claw-'));
  assert.equal(netns.length, held.length);
  for (const { id, ip } of held) assert.match(await stdoutOf('ip', '-n', `claw-${id}`, 'addr', 'show', 'dev', 'eth0'), new RegExp(`inet ${ip}/24`));
  const routes = (await stdoutOf('ip', 'route')).split('\n').filter((line) => line.includes('dev clawv'));
  assert.deepEqual(routes.map((line) => line.split(' ')[0] ?? '').toSorted(), held.map(({ ip }) => ip).toSorted());
});

function numbers(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index + 1);
}

function lastOctet(ip: string): number {
  return Number(ip.split('.').at(-1));
}
