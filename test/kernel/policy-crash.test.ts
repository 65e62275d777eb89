/** The agent is killed with SIGKILL at every step of a change of policies and started again: nothing forbidden passes, nothing allowed breaks, and what was to be cut is cut. */
import { strict as assert } from 'node:assert';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { answered, closeEverything, inside, launchAgentProcess, openTestAgent, startAgentProcess, type TestAgent } from './agent-fixture.ts';
import type { Attempt, Client } from './agent-prober.ts';
import { enterNamespace } from './namespace.ts';
import { countPackets, trafficFrom, type PacketCounter, type Traffic } from './traffic.ts';

// More for a long run by hand.
const KILLS = Number(process.env['CLAWNODE_TEST_KILLS'] ?? 20);
const NAMES = ['a', 'b', 'c', 'd', 'e'] as const;
let agent: TestAgent;
let ips: readonly string[];
let [withinA, withinE]: readonly (Client | undefined)[] = [];
let denied: Traffic;
let allowed: Traffic;
let arrivals: PacketCounter;
const traffic = new AsyncDisposableStack();

before(async () => {
  await enterNamespace();
  agent = await openTestAgent();
  const [a, b, c, d, e] = await Promise.all(NAMES.map((name) => agent.server(name, { labels: { app: name }, listen: ['tcp:8080', 'udp:8080'] })));
  assert.ok(a && b && c && d && e);
  ips = [b.ip, d.ip];
  const vip = await agent.service('b', { selector: { app: 'b' }, port: 80, targetPort: 8080 });
  [withinA, withinE] = [inside(a), inside(e)];
  await agent.invoke('network.policy.create', { name: 'guard', ...rule('b', 'a') });
  await agent.close();
  arrivals = await countPackets(b, c.ip);
  answered(await withinA.hold('long', b.ip, 8080));
  denied = traffic.use(await trafficFrom(c, [
    { kind: 'tcp', ip: b.ip, port: 8080, everyMs: 5 },
    { kind: 'tcp', ip: vip, port: 80, everyMs: 10 },
    { kind: 'udp', ip: b.ip, port: 8080, everyMs: 2 },
  ]));
  allowed = traffic.use(await trafficFrom(a, [
    { kind: 'tcp', ip: b.ip, port: 8080, everyMs: 10 },
    { kind: 'tcp', ip: vip, port: 80, everyMs: 20 },
  ]));
});

after(closeEverything);
after(() => traffic.disposeAsync());

test(`${KILLS} kills, spread over the steps of a change and of a start`, async (t) => {
  const [target = '', other = ''] = ips;
  assert.ok(withinA && withinE);
  let running = await startAgentProcess();
  const stepMs = await durationOfChange();
  let written = 0;
  for (let kill = 0; kill < KILLS; kill += 1) {
    await settle();
    answered(await withinE.hold('stream', other, 8080));
    // From before the change is stored to after it is in force.
    const waits = 1.5 * stepMs * (kill / KILLS) ** 2;
    const change = CHANGES[kill % CHANGES.length];
    const refused = Promise.all([change?.(), forbid()]).then(() => undefined, (error: unknown) => error);
    await sleep(waits);
    await running.kill();
    await refused;
    if (kill % 3 === 0) {
      const starting = launchAgentProcess();
      await sleep(700 * Math.random());
      await starting.kill();
    }
    running = await startAgentProcess();
    const isWritten = await agent.invoke('network.policy.get', { name: 'cut' }).then(() => true, () => false);
    const answer: Attempt = await withinE.echo('stream');
    // What the store holds is in force as soon as calls are taken; what it does not hold has changed nothing.
    assert.equal(answer.error === undefined, !isWritten, `kill ${kill} after ${waits.toFixed(1)} ms: ${answer.error ?? 'the stream lives'}`);
    if (isWritten) written += 1;
  }
  assert.equal((await withinA.echo('long')).answer, 'ping');
  const [tcp, throughVip, udp] = await denied.take();
  assert.equal(await arrivals.packets(), 0, 'packets from c at b');
  assert.ok(tcp && throughVip && udp && Math.min(tcp.tries, throughVip.tries, udp.tries) > 10 * KILLS);
  assert.deepEqual([tcp.passed, throughVip.passed, udp.passed], [[], [], []]);
  const [direct, balanced] = await allowed.take();
  assert.ok(direct && balanced && direct.passed.length > 5 * KILLS);
  assert.deepEqual([direct.failures, balanced.failures], [{}, {}]);
  assert.ok(written > 0 && written < KILLS, `${written} of ${KILLS} changes were stored before the kill`);
  answered(await withinA.tcp(target, 8080));
  t.diagnostic(`a change takes ${stepMs.toFixed(0)} ms; ${written} of ${KILLS} were stored; denied: ${tcp.tries} + ${throughVip.tries} + ${udp.tries} tries, 0 packets; allowed: ${direct.tries + balanced.tries} connections, none failed`);
});

const CHANGES: readonly (() => Promise<unknown>)[] = [
  () => agent.invoke('network.policy.create', { name: 'more', ...rule('b', 'd') }),
  () => agent.invoke('network.policy.update', { name: 'guard', ...rule('b', 'a'), egress: [] }),
  () => agent.invoke('workload.update', { name: 'c', labels: { app: 'c', tier: 'front' } }),
  () => agent.invoke('network.policy.create', { name: 'all', selector: { matchExpressions: [{ key: 'app', operator: 'In', values: ['b', 'e'] }] }, ingress: [{ from: { selector: { app: 'a' } } }, { from: { selector: { app: 'e' } } }] }),
  () => agent.invoke('network.policy.create', { name: 'more', selector: { app: 'c' }, egress: [{ to: { selector: { app: 'd' } } }] }),
];

function forbid(): Promise<unknown> {
  return agent.invoke('network.policy.create', { name: 'cut', selector: { app: 'd' }, ingress: [{ from: { selector: { app: 'c' } } }] });
}

function rule(target: string, source: string): object {
  return { selector: { app: target }, ingress: [{ from: { selector: { app: source } } }] };
}

/** Back to the guard alone, which forbids nothing between e and d. */
async function settle(): Promise<void> {
  for (const name of ['cut', 'more', 'all']) await agent.invoke('network.policy.delete', { name }).catch(() => undefined);
  await agent.invoke('network.policy.update', { name: 'guard', ...rule('b', 'a'), egress: null });
  await agent.invoke('workload.update', { name: 'c', labels: { app: 'c' } });
}

async function durationOfChange(): Promise<number> {
  await settle();
  const startedAt = performance.now();
  await Promise.all([CHANGES[0]?.(), forbid()]);
  return performance.now() - startedAt;
}
