/** Policies change under traffic without pause: not one packet of a flow that was never allowed passes, and what was always allowed never breaks. */
import { strict as assert } from 'node:assert';
import { after, before, test } from 'node:test';
import { answered, assertRefused, closeEverything, inside, openTestAgent, type TestAgent, type TestWorkload } from './agent-fixture.ts';
import type { Client } from './agent-prober.ts';
import { enterNamespace } from './namespace.ts';
import { countPackets, trafficFrom, type PacketCounter, type Taken, type Traffic } from './traffic.ts';

const CHANGES = 200;
const SWAPS = 50;
const NAMES = ['a', 'b', 'c', 'd', 'e'] as const;
type Name = (typeof NAMES)[number];
let agent: TestAgent;
let workloads: Readonly<Record<Name, TestWorkload>>;
let vip: string;
let within: Client;
let denied: Traffic;
let allowed: Traffic;
let arrivals: PacketCounter;
const traffic = new AsyncDisposableStack();

before(async () => {
  await enterNamespace();
  agent = await openTestAgent();
  const [a, b, c, d, e] = await Promise.all(NAMES.map((name) => agent.server(name, { labels: { app: name }, listen: ['tcp:8080', 'udp:8080'] })));
  assert.ok(a && b && c && d && e);
  workloads = { a, b, c, d, e };
  vip = await agent.service('b', { selector: { app: 'b' }, port: 80, targetPort: 8080 });
  within = inside(a);
  await policy('create', 'guard', { selector: app('b'), ingress: [from('a')] });
  arrivals = await countPackets(b, c.ip);
  answered(await within.hold('long', b.ip, 8080));
  denied = traffic.use(await trafficFrom(c, [
    { kind: 'tcp', ip: b.ip, port: 8080, everyMs: 4 },
    { kind: 'tcp', ip: vip, port: 80, everyMs: 8 },
    { kind: 'udp', ip: b.ip, port: 8080, everyMs: 2 },
    { kind: 'udp-new', ip: b.ip, port: 8080, everyMs: 8 },
  ]));
  allowed = traffic.use(await trafficFrom(a, [
    { kind: 'tcp', ip: b.ip, port: 8080, everyMs: 10 },
    { kind: 'tcp', ip: vip, port: 80, everyMs: 20 },
    { kind: 'tcp-held', ip: b.ip, port: 8080, everyMs: 200 },
  ]));
});

after(closeEverything);
after(() => traffic.disposeAsync());

test(`${CHANGES} creations, updates and deletions of policies and changes of labels leak nothing and break nothing`, async (t) => {
  for (let round = 0; round < CHANGES; round += 1) {
    await CHURN[round % CHURN.length]?.(Math.floor(round / CHURN.length));
    if (round % 10 === 0) assert.equal((await within.echo('long')).answer, 'ping', `after ${round} changes`);
  }
  t.diagnostic(await unleaked());
});

test(`{a may reach b} becomes {c may reach d} and back ${SWAPS} times: c never reaches b`, async (t) => {
  await policy('create', 'nobody', { ingress: [] });
  await policy('create', 'pair', { selector: app('b'), ingress: [from('a')] });
  await policy('delete', 'guard');
  // What a asks b is allowed only now and then.
  const resting = await allowed.take();
  for (const { failures } of resting) assert.deepEqual(failures, {});
  const fromC = inside(workloads.c);
  for (let round = 0; round < SWAPS; round += 1) {
    await policy('update', 'pair', { selector: app('d'), ingress: [from('c')] });
    if (round % 10 === 0) answered(await fromC.tcp(workloads.d.ip, 8080));
    await policy('update', 'pair', { selector: app('b'), ingress: [from('a')] });
    if (round % 10 === 0) assertRefused(await fromC.tcp(workloads.d.ip, 8080));
  }
  t.diagnostic(await undelivered());
});

test('the same by egress and by labels alone: the policy stays and workloads change their parts in it', async (t) => {
  await policy('update', 'pair', { selector: label('part', 'target'), ingress: [{ from: { selector: label('part', 'source') } }] });
  await policy('create', 'out', { selector: app('c'), egress: [{ to: { selector: label('part', 'target') } }] });
  const parts = async (names: Readonly<Partial<Record<Name, string>>>): Promise<void> => {
    for (const [name, part] of Object.entries(names)) await agent.invoke('workload.update', { name, labels: { app: name, ...(part === '' ? {} : { part }) } });
  };
  const [fromA, fromC] = [inside(workloads.a), inside(workloads.c)];
  for (let round = 0; round < SWAPS / 5; round += 1) {
    await parts({ b: 'target', a: 'source' });
    answered(await fromA.tcp(workloads.b.ip, 8080));
    await parts({ b: '', a: '', d: 'target', c: 'source' });
    answered(await fromC.tcp(workloads.d.ip, 8080));
    await parts({ c: '', d: '' });
  }
  t.diagnostic(await undelivered());
});

/** Each allows and forbids other things around c, b and a, yet never c to b, and always a to b. */
const CHURN: readonly ((turn: number) => Promise<unknown>)[] = [
  (turn) => policy('create', 'near-b', { selector: app('b'), ingress: [from(turn % 2 === 0 ? 'd' : 'e')] }),
  () => relabel('c', { role: 'two' }),
  () => policy('update', 'near-b', { ingress: [from('e'), { ...from('a'), port: 8080 }] }),
  (turn) => policy('create', 'to-d', { selector: app('c'), egress: [{ to: { selector: app('d') } }, { to: { cidr: '192.0.2.0/24' }, port: 1000 + turn }] }),
  () => relabel('d', { role: 'three' }),
  () => policy('create', 'twin', { selector: { matchExpressions: [{ key: 'app', operator: 'In', values: ['b', 'x'] }] }, ingress: [{ ...from('a'), ports: [{ port: 8080, protocol: 'tcp' }] }, from('d')] }),
  // While its twin stands for it, the guard itself goes and comes back in another form.
  () => policy('delete', 'guard'),
  () => policy('update', 'twin', { ingress: [from('a')] }),
  (turn) => policy('create', 'guard', { selector: app('b'), ingress: [turn % 2 === 0 ? from('a') : { from: { cidr: `${workloads.a.ip}/32` } }] }),
  () => policy('delete', 'twin'),
  () => policy('delete', 'to-d'),
  () => relabel('b', { role: 'one' }),
  () => policy('create', 'heard', { selector: {}, ingress: [], mode: 'audit' }),
  () => policy('create', 'one-two', { selector: label('role', 'one'), ingress: [{ from: { selector: label('role', 'three') } }] }),
  () => policy('update', 'one-two', { ingress: null, egress: [{ to: { selector: label('role', 'two') } }] }),
  () => relabel('d', {}),
  () => policy('delete', 'heard'),
  () => policy('delete', 'one-two'),
  () => relabel('b', {}),
  () => relabel('c', {}),
  () => policy('delete', 'near-b'),
];

function app(name: string): Record<string, string> {
  return label('app', name);
}

function label(key: string, value: string): Record<string, string> {
  return { [key]: value };
}

function from(name: string): { from: { selector: Record<string, string> } } {
  return { from: { selector: app(name) } };
}

async function policy(act: 'create' | 'update' | 'delete', name: string, params: object = {}): Promise<void> {
  const { enforced } = await agent.invoke(`network.policy.${act}`, { name, ...params });
  assert.equal(enforced, true, `${act} ${name}`);
}

async function relabel(name: Name, labels: Readonly<Record<string, string>>): Promise<void> {
  await agent.invoke('workload.update', { name, labels: { app: name, ...labels } });
}

/** Neither did a packet of c arrive at b, nor did anything from a to b fail. */
async function unleaked(): Promise<string> {
  const told = await undelivered();
  const [fresh, throughVip, held] = await allowed.take();
  assert.ok(fresh && throughVip && held && fresh.passed.length > 100 && held.passed.length > 10);
  assert.deepEqual([fresh.failures, throughVip.failures, held.failures], [{}, {}, {}]);
  return `${told}; allowed: ${fresh.tries + throughVip.tries} connections, none failed`;
}

async function undelivered(): Promise<string> {
  const tries = await denied.take();
  assert.equal(await arrivals.packets(), 0, 'packets from c at b');
  for (const { passed } of tries) assert.deepEqual(passed, []);
  assert.ok(tries.every((each) => each.tries > 50), JSON.stringify(tries));
  return `denied: ${tries.map((each) => each.tries).join(' + ')} tries, ${tries.map(failuresOf).join(' ')}; 0 packets passed`;
}

function failuresOf({ failures }: Taken): string {
  return JSON.stringify(failures);
}
