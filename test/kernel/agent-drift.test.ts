/** What others break in the kernel, the agent repairs within seconds and tells, without being asked. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { z } from 'zod';
import { run } from '../../src/drivers/exec.ts';
import { agentLog, answered, closeEverything, host, inside, openTestAgent, until, type TestAgent, type TestWorkload } from './agent-fixture.ts';
import type { Client } from './agent-prober.ts';
import { BACKEND, IPTABLES } from './backend.ts';
import { ownState } from './drift-fixture.ts';
import { enterNamespace } from './namespace.ts';

const REPAIR_MS = 5_000;
const status = z.object({ drift: z.object({ repairs: z.int(), last: z.string().optional(), lastRepairAt: z.string().optional() }) });
let agent: TestAgent;
let server: TestWorkload;
let within: Client;
let vip: string;

before(async () => {
  await enterNamespace();
  agent = await openTestAgent();
  server = await agent.server('server', { labels: { app: 'web' }, listen: ['tcp:8080'] });
  within = inside(await agent.server('other'));
  vip = await agent.service('web', { selector: { app: 'web' }, port: 80, targetPort: 8080 });
});
after(closeEverything);

interface Damage {
  readonly name: string;
  /** In one shell, as an operator would. */
  readonly commands: () => string;
  /** What `network.status` and the log say of it. */
  readonly told: RegExp;
}

const others = `${IPTABLES} -I FORWARD -s 198.51.100.1 -j ACCEPT`;
const damages: readonly Damage[] = [
  { name: 'jump of filter deleted', commands: () => `${IPTABLES} -D FORWARD 1`, told: /filter FORWARD: jump to CLAW-NETPOL was missing/ },
  { name: 'jump of nat deleted', commands: () => `${IPTABLES} -t nat -D OUTPUT 1`, told: /nat OUTPUT: jump to CLAW-SERVICES was missing/ },
  { name: 'jump of raw deleted', commands: () => `${IPTABLES} -t raw -F PREROUTING`, told: /raw PREROUTING: jump to CLAW-SPOOF was missing/ },
  { name: 'foreign rule put before our jump', commands: () => others, told: /filter FORWARD: jump to CLAW-NETPOL was not in its place at the front/ },
  { name: 'chain of services flushed', commands: () => `${IPTABLES} -t nat -F CLAW-SERVICES`, told: /nat: chain CLAW-SERVICES was empty/ },
  { name: 'chain of a few services flushed', commands: () => `${IPTABLES} -t nat -F $(${IPTABLES}-save -t nat | sed -n 's/^:\\(CLAW-VIP-[^ ]*-28\\) .*/\\1/p')`, told: /nat: chain CLAW-VIP-\S+-28 was empty/ },
  { name: 'chain of isolation flushed', commands: () => `${IPTABLES} -F CLAW-NETPOL`, told: /filter: chain CLAW-NETPOL was empty/ },
  { name: 'filter flushed', commands: () => `${IPTABLES} -F`, told: /filter FORWARD: jump to CLAW-NETPOL was missing/ },
  { name: 'nat flushed', commands: () => `${IPTABLES} -t nat -F`, told: /nat PREROUTING: jump to CLAW-SERVICES was missing/ },
  {
    name: 'all tables flushed and their chains deleted',
    commands: () => ['raw', 'filter', 'nat'].map((table) => `${IPTABLES} -t ${table} -F; ${IPTABLES} -t ${table} -X`).join('; '),
    told: /: all chains and jumps of ours were missing|: jump to CLAW-\S+ was missing/,
  },
  ...(BACKEND === 'nft' ? [{ name: 'ruleset of nft flushed', commands: () => 'nft flush ruleset', told: /all chains and jumps of ours were missing/ }] : []),
  { name: 'set flushed', commands: () => 'ipset flush CLAW-HAIRPIN', told: /set CLAW-HAIRPIN was empty/ },
  { name: 'set swapped', commands: () => 'ipset create other hash:net,iface; ipset swap CLAW-HAIRPIN other; ipset destroy other', told: /set CLAW-HAIRPIN was empty/ },
  { name: 'member of a set deleted', commands: () => `ipset del CLAW-HAIRPIN ${server.ip},${server.hostInterface}`, told: /set CLAW-HAIRPIN held 1 members instead of 2/ },
  {
    name: 'member of a set changed for another',
    commands: () => `ipset del CLAW-HAIRPIN ${server.ip},${server.hostInterface}; ipset add CLAW-HAIRPIN 192.0.2.9,${server.hostInterface}`,
    told: /set CLAW-HAIRPIN held other members/,
  },
  // The kernel keeps a set that a rule refers to, and the agent is quick to put its rules back.
  {
    name: 'set destroyed',
    commands: () => `for try in $(seq 50); do printf '*nat\\n-F CLAW-POSTROUTING\\nCOMMIT\\n*filter\\n-F CLAW-NETPOL\\nCOMMIT\\n' | ${IPTABLES}-restore --noflush; ipset destroy CLAW-HAIRPIN 2>/dev/null && exit; done; exit 1`,
    told: /chain CLAW-(POSTROUTING|NETPOL) was empty|set CLAW-HAIRPIN was missing/,
  },
  { name: 'interface deleted', commands: () => `ip link del ${server.hostInterface}`, told: /interface clawv\w+ was missing/ },
  { name: 'interface down', commands: () => `ip link set ${server.hostInterface} down`, told: /interface clawv\w+ was down/ },
  { name: 'gateway address gone', commands: () => 'ip addr del 10.200.1.1/32 dev lo', told: /gateway address 10\.200\.1\.1 on lo was missing/ },
  { name: 'gateway address of an interface gone', commands: () => `ip addr del 10.200.1.1/32 dev ${server.hostInterface}`, told: /gateway address 10\.200\.1\.1 on clawv\w+ was missing/ },
  { name: 'route of the VIP range gone', commands: () => 'ip route del local 10.201.0.0/16 table local', told: /local route of the VIP range 10\.201\.0\.0\/16 was missing/ },
  { name: 'route to a workload gone', commands: () => `ip route del ${server.ip}`, told: /route to 10\.200\.1\.2 through clawv\w+ was missing/ },
  { name: 'ip_forward off', commands: () => 'echo 0 > /proc/sys/net/ipv4/ip_forward', told: /forwarding \(ip_forward\) was off/ },
];

const took: string[] = [];

for (const { name, commands, told } of damages) {
  test(`${name}: within 5 s all of ours is as before and answers, and status and log say what it was`, async () => {
    const { drift: earlier } = status.parse(await agent.invoke('network.status'));
    const [whole, logged] = [await ownState(BACKEND), agentLog().length];
    const startedAt = performance.now();
    await run(['sh', '-ec', commands()]);
    await until('all of ours is as before', async () => assert.equal(await ownState(BACKEND), whole));
    await until('the VIP answers from the host and from a workload', async () => {
      answered(await host.tcp(vip, 80, { timeoutMs: 500 }));
      answered(await within.tcp(vip, 80, { timeoutMs: 500 }));
    });
    const { drift } = await until('a repair is told', async () => {
      const now = status.parse(await agent.invoke('network.status'));
      assert.ok(now.drift.repairs > earlier.repairs && told.test(now.drift.last ?? ''), now.drift.last);
      return now;
    });
    const ms = performance.now() - startedAt;
    took.push(`${name} ${ms.toFixed(0)} ms`);
    assert.ok(ms < REPAIR_MS, `repaired only after ${ms.toFixed(0)} ms`);
    assert.ok(Date.now() - Date.parse(drift.lastRepairAt ?? '') < 20_000);
    const lines = agentLog().slice(logged).filter((line) => line.includes('repaired what others changed in the kernel'));
    assert.ok(lines.some((line) => told.test(line)), lines.join('\n'));
  });
}

test('how long the repairs took', (t) => t.diagnostic(took.join('; ')));

test('a workload whose network namespace lost its name is run anew, with a network that works', async () => {
  await run(['ip', 'netns', 'del', server.netns]);
  // Nothing tells of a name that goes; what is looked at next shows it.
  await run(['ip', 'link', 'set', 'lo', 'mtu', '65000']);
  await until('it is told', async () => assert.match(status.parse(await agent.invoke('network.status')).drift.last ?? '', /namespace/));
  await until('the VIP answers', async () => answered(await host.tcp(vip, 80)));
  await until('the workload reaches others', async () => answered(await inside(server).tcp(vip, 80)));
  await run(['ip', 'link', 'set', 'lo', 'mtu', '65536']);
});
