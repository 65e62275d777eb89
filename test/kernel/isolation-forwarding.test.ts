/** Turning forwarding on for workloads does not make the machine a router between networks that are not ours. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { run } from '../../src/drivers/exec.ts';
import { buildOutside, closeEverything, inside, openTestAgent, savedRules, type OutsideHost, type TestAgent } from './agent-fixture.ts';
import { IPTABLES } from './backend.ts';
import { enterNamespace } from './namespace.ts';

const FORWARDING = '/proc/sys/net/ipv4/ip_forward';
const QUICK = { timeoutMs: 700 };
let agent: TestAgent;
let outside: OutsideHost;
let other: ReturnType<typeof inside>;

before(async () => {
  await enterNamespace();
  await writeFile(FORWARDING, '0');
  outside = await buildOutside();
  agent = await openTestAgent();
  await run(['ip', 'netns', 'add', 'other']);
  await run(['ip', '-batch', '-'], { input: 'link add uplink1 type veth peer name eth0 netns other\naddr add 198.51.100.1/24 dev uplink1\nlink set uplink1 up\n' });
  await run(['ip', '-n', 'other', '-batch', '-'], { input: 'link set lo up\naddr add 198.51.100.2/24 dev eth0\nlink set eth0 up\nroute add default via 198.51.100.1\n' });
  other = inside({ netns: 'other' });
  await outside.serve('outside', ['tcp:9000']);
});
after(closeEverything);

test('where forwarding was off, new connections between foreign networks are dropped', async () => {
  assert.equal((await readFile(FORWARDING, 'utf8')).trim(), '1');
  assert.equal((await other.tcp(outside.ip, 9000, QUICK)).error, 'SILENT');
});

test('what an operator accepts before our rule keeps its say', async () => {
  await run([IPTABLES, '-I', 'FORWARD', '1', '-s', '198.51.100.0/24', '-j', 'ACCEPT']);
  assert.equal((await other.tcp(outside.ip, 9000, QUICK)).answer?.includes('outside'), true);
  await run([IPTABLES, '-D', 'FORWARD', '-s', '198.51.100.0/24', '-j', 'ACCEPT']);
});

test('routeForeign lets the machine route; taking it back stops that', async () => {
  await agent.close();
  await agent.reopen({ routeForeign: true });
  assert.equal((await other.tcp(outside.ip, 9000, QUICK)).answer?.includes('outside'), true);
  await agent.close();
  await agent.reopen();
  assert.equal((await other.tcp(outside.ip, 9000, QUICK)).error, 'SILENT');
  await agent.close();
  const { forwardingTurnedOff } = await agent.cleanup();
  assert.equal(forwardingTurnedOff, true);
  assert.equal((await readFile(FORWARDING, 'utf8')).trim(), '0');
  assert.doesNotMatch(await savedRules(), /CLAW-/);
});
