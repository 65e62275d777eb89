/** A restart of the agent leaves the kernel as it is, and its cleanup leaves it as it was; foreign rules stay throughout. */
import { strict as assert } from 'node:assert';
import { after, before, test } from 'node:test';
import { z } from 'zod';
import { run, start } from '../../src/drivers/exec.ts';
import {
  answered,
  buildOutside,
  closeEverything,
  foreignRules,
  host,
  inside,
  openTestAgent,
  ownRules,
  processesRunning,
  savedRules,
  until,
  type TestAgent,
} from './agent-fixture.ts';
import { BACKEND, IPTABLES } from './backend.ts';
import { enterNamespace, stdoutOf } from './namespace.ts';

const WEB = { app: 'web' };
let agent: TestAgent;
let clean: Readonly<Record<string, string>>;

before(async () => {
  await enterNamespace();
  await buildOutside();
  await run([`${IPTABLES}-restore`, '--counters'], { input: FOREIGN });
  clean = await kernel();
  agent = await openTestAgent();
});

after(closeEverything);

test('after a restart all rules, addresses and processes are as before, connections live on, and nothing was written to the kernel', async (t) => {
  const servers = await Promise.all(['a', 'b', 'c'].map((name) => agent.server(name, { labels: WEB, listen: ['tcp:8080', 'udp:8080'] })));
  const vips = [
    await agent.service('web', { selector: WEB, port: 80, targetPort: 8080 }),
    await agent.service('dns', { selector: WEB, port: 53, protocol: 'udp', targetPort: 8080 }),
  ];
  const [vip = '', dns = ''] = vips;
  const within = inside({ netns: servers[0]?.netns ?? '' });
  for (const client of [host, within]) answered(await client.hold('open', vip, 80));
  const flow = answered(await host.udp(dns, 53, { key: 'flow' })).name;
  const earlier = await state();
  const events = start(['ip', 'monitor', 'link', 'address', 'route'], { stdio: ['ignore', 'pipe', 'ignore'] });
  // Nothing tells of changes of legacy tables; there no process that could write is started.
  const changes = BACKEND === 'nft' ? [start(['nft', 'monitor'], { stdio: ['ignore', 'pipe', 'ignore'] })] : [];
  t.after(() => [events, ...changes].map((child) => child.kill()));
  let seen = '';
  for (const child of [events, ...changes]) child.stdout?.on('data', (text: Buffer) => (seen += text.toString()));
  // A change of others after which the monitors have told all that came before it.
  const mark = async (mtu: number): Promise<void> => {
    await run(['ip', 'link', 'set', 'lo', 'mtu', String(mtu)]);
    await run([IPTABLES, '-A', 'FOREIGN-A', '-j', 'RETURN']);
    await run([IPTABLES, '-D', 'FOREIGN-A', '-j', 'RETURN']);
    await until('the monitors report', () => assert.ok(seen.includes(`mtu ${mtu}`) && (BACKEND === 'legacy' || seen.includes('delete rule ip filter FOREIGN-A'))));
  };
  // A monitor that has only just been started may not listen yet.
  await until('the monitors listen', async () => {
    for (const mtu of [65_000, 65_535]) await run(['ip', 'link', 'set', 'lo', 'mtu', String(mtu)]);
    assert.ok(seen.includes('mtu 65000'));
  });
  await mark(65_534);
  await agent.close();
  for (const client of [host, within]) assert.equal((await client.echo('open', 'while closed')).answer, 'while closed');
  answered(await host.tcp(vip, 80));
  seen = '';
  await agent.reopen();
  await mark(65_536);
  assert.doesNotMatch(seen, /claw|10\.20[01]\./i);
  if (BACKEND === 'nft') assert.equal(seen.match(/new generation/g)?.length, 2, 'one for each rule of the mark');
  // It is started by the first write.
  assert.deepEqual(await processesRunning(`${IPTABLES}-restore`), []);
  assert.deepEqual(await state(), earlier);
  for (const client of [host, within]) assert.equal((await client.echo('open', 'after it')).answer, 'after it');
  assert.equal(answered(await host.udp(dns, 53, { key: 'flow' })).name, flow);
  const next = await agent.service('next', { selector: WEB, port: 80, targetPort: 8080 });
  assert.ok(!vips.includes(next));
  answered(await host.tcp(next, 80));
});

test('foreign rules before, between and behind ours stay byte for byte, with their counters, through every change', async () => {
  for (const [table, chain] of [['raw', 'PREROUTING'], ['filter', 'FORWARD'], ['filter', 'INPUT'], ['nat', 'OUTPUT'], ['nat', 'POSTROUTING']] as const) {
    await run([IPTABLES, '-t', table, '-I', chain, '1', '-s', '198.51.100.1', '-j', 'ACCEPT']);
    await run([IPTABLES, '-t', table, '-A', chain, '-s', '198.51.100.3', '-j', 'ACCEPT']);
  }
  const foreign = await foreignRules();
  await agent.server('d', { labels: { app: 'd' } });
  await agent.service('d', { selector: { app: 'd' }, port: 80, targetPort: 8080 });
  assert.equal(await foreignRules(), foreign);
  await agent.invoke('service.update', { name: 'd', port: 81 });
  await agent.invoke('service.delete', { name: 'd' });
  assert.equal(await foreignRules(), foreign);
  await agent.stop('d');
  await agent.close();
  await agent.reopen();
  assert.equal(await foreignRules(), foreign);
  assert.match(foreign, /CLAWLESS/);
  // The restart has put ours first again.
  assert.match((await savedRules('-t', 'filter')).split('\n').find((line) => line.startsWith('-A FORWARD')) ?? '', /-j CLAW-NETPOL$/);
  for (const [table, chain] of [['raw', 'PREROUTING'], ['filter', 'FORWARD'], ['filter', 'INPUT'], ['nat', 'OUTPUT'], ['nat', 'POSTROUTING']] as const) {
    for (const source of ['198.51.100.1', '198.51.100.3']) await run([IPTABLES, '-t', table, '-D', chain, '-s', source, '-j', 'ACCEPT']);
  }
});

test('cleanup refuses while the agent runs, and then leaves nothing of ours: no chain, set, interface, namespace, address, route or process', async () => {
  await assert.rejects(agent.cleanup(), { code: 'AGENT_ALREADY_RUNNING' });
  await agent.close();
  const report = await agent.cleanup();
  assert.ok(report.workloads >= 3 && report.interfaces >= 3 && report.networkNamespaces >= 3 && report.ruleLines > 0 && report.ipsets >= 1 && report.addressesAndRoutes >= 3);
  assert.deepEqual(await kernel(), clean);
  assert.equal(await ownRules().then((text) => text.includes('CLAW-')), false);
  for (const program of ['tcp:8080', 'supervise.sh', 'hold.sh', 'proxy/main.ts', `${IPTABLES}-restore`]) assert.deepEqual(await processesRunning(program), [], program);
  const again = await agent.cleanup();
  assert.deepEqual(Object.values(again), [0, 0, 0, 0, 0, 0, false]);
});

test('after a cleanup the next start programs the same services and workloads again', async () => {
  await agent.reopen();
  const { services } = z.object({ services: z.array(z.object({ name: z.string(), clusterIp: z.string() })) }).parse(await agent.invoke('service.list'));
  const web = services.find(({ name }) => name === 'web');
  await until('the workloads answer behind the service again', async () => answered(await host.tcp(web?.clusterIp ?? '', 80)));
  await agent.clear();
  await agent.close();
  await agent.cleanup();
  assert.deepEqual(await kernel(), clean);
});

/** All that a restart must not change. */
async function state(): Promise<Record<string, unknown>> {
  const { workloads } = z.object({ workloads: z.array(z.record(z.string(), z.unknown())) }).parse(await agent.invoke('workload.list'));
  return {
    rules: await ownRules(),
    sets: await stdoutOf('ipset', 'save'),
    network: await kernel(),
    workloads,
    services: await agent.invoke('service.list'),
    pids: await Promise.all(['a', 'b', 'c'].map((name) => processesRunning(`${name}\0tcp:8080`))),
  };
}

/** What of the kernel is not ours, plus every address, route, interface and name that could be. */
async function kernel(): Promise<Record<string, string>> {
  const [foreign, addresses, routes, sets, namespaces] = await Promise.all([
    foreignRules(),
    stdoutOf('ip', '-4', '-o', 'addr'),
    stdoutOf('ip', '-4', 'route', 'show', 'table', 'all'),
    stdoutOf('ipset', 'list', '-n'),
    stdoutOf('ip', 'netns', 'list'),
  ]);
  // Tables that only we have written to come into being empty.
  const tables = foreign.replaceAll(/\*raw\n(?::[A-Z]+ ACCEPT\n)+COMMIT\n/g, '');
  return { foreign: tables, addresses, routes, sets, namespaces: namespaces.replaceAll(/ \(id: \d+\)/g, '') };
}

/** No traffic of the tests meets these, so their counters stay as they are written here. */
const FOREIGN = `*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:CLAWLESS - [0:0]
[11:1100] -A PREROUTING -s 198.51.100.2/32 -j CLAWLESS
[12:1200] -A CLAWLESS -j DROP
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:FOREIGN-A - [0:0]
:CLAWLESS - [0:0]
[21:2100] -A INPUT -s 198.51.100.2/32 -m comment --comment "to -j CLAW-X\\" or not" -j FOREIGN-A
[22:2200] -A FORWARD -s 198.51.100.2/32 -j CLAWLESS
[23:2300] -A FOREIGN-A -p tcp -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable
[24:2400] -A CLAWLESS -j RETURN
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:FOREIGN-N - [0:0]
[31:3100] -A PREROUTING -s 198.51.100.2/32 -p tcp -j FOREIGN-N
[32:3200] -A OUTPUT -d 198.51.100.2/32 -p tcp -m tcp --dport 1 -j REDIRECT --to-ports 2
[33:3300] -A POSTROUTING -s 198.51.100.2/32 -j MASQUERADE
[34:3400] -A FOREIGN-N -p tcp -j DNAT --to-destination 198.51.100.4:80
COMMIT
`;
