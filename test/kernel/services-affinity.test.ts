/** Session affinity on the real kernel: who stays where, for how long, and what becomes of them when endpoints come and go. */
import { strict as assert } from 'node:assert';
import { after, afterEach, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../src/drivers/exec.ts';
import { answered, buildOutside, closeEverything, host, inside, openTestAgent, savedRules, type OutsideHost, type TestAgent } from './agent-fixture.ts';
import { enterNamespace, stdoutOf } from './namespace.ts';

const WEB = { labels: { app: 'web' } };
const STICKY = { selector: WEB.labels, port: 80, targetPort: 8080, sessionAffinity: { type: 'clientIP' } };
/** Far more than the 100 that the kernel's `recent` match remembers. */
const CLIENTS = Array.from({ length: 300 }, (_, index) => `10.77.${index >> 8}.${index & 255}`);
let agent: TestAgent;
let outside: OutsideHost;

before(async () => {
  await enterNamespace();
  outside = await buildOutside();
  await run(['ip', '-n', 'outside', '-batch', '-'], { input: CLIENTS.map((ip) => `addr add ${ip}/32 dev eth0\n`).join('') });
  await run(['ip', 'route', 'add', '10.77.0.0/16', 'via', outside.ip]);
  agent = await openTestAgent({ exposeTo: ['10.77.0.0/16'] });
});

afterEach(() => agent.clear());

after(closeEverything);

test('300 clients stay where they are, over other changes and a restart; an endpoint that goes loses only its own, and tears none when it is back', async () => {
  await Promise.all(['a', 'b', 'c'].map((name) => agent.server(name, WEB)));
  const vip = await agent.service('web', STICKY);
  const first = await placesOf(vip);
  for (const name of ['a', 'b', 'c']) {
    const share = [...first.values()].filter((place) => place === name).length;
    assert.ok(share > 50 && share < 160, `${name} has ${share} of 300`);
  }
  assert.deepEqual(await placesOf(vip), first);

  await agent.service('other', { ...STICKY, port: 81 });
  await agent.invoke('service.update', { name: 'web', sessionAffinity: { type: 'clientIP', timeoutSeconds: 9000 } });
  assert.deepEqual(await placesOf(vip), first, 'after unrelated changes');
  const sets = await memberCount();
  await agent.close();
  await agent.reopen();
  assert.equal(await memberCount(), sets);
  assert.deepEqual(await placesOf(vip), first, 'after a restart');

  await agent.invoke('workload.update', { name: 'b', labels: {} });
  const second = await placesOf(vip);
  for (const [client, place] of first) {
    const now = second.get(client);
    if (place === 'b') assert.ok(now === 'a' || now === 'c', `${client} is at ${now ?? ''}`);
    else assert.equal(now, place, client);
  }
  await agent.invoke('workload.update', { name: 'b', labels: WEB.labels });
  assert.deepEqual(await placesOf(vip), second, 'b is back');
});

test('without affinity the same clients are scattered anew; when it is taken away nothing of it is left', async () => {
  await Promise.all(['a', 'b'].map((name) => agent.server(name, WEB)));
  const vip = await agent.service('web', STICKY);
  const first = await placesOf(vip);
  await agent.invoke('service.update', { name: 'web', sessionAffinity: null });
  const second = await placesOf(vip);
  const moved = CLIENTS.filter((client) => first.get(client) !== second.get(client)).length;
  assert.ok(moved > 90 && moved < 210, `${moved} moved`);
  assert.doesNotMatch(await savedRules('-t', 'nat'), /CLAW-[AE]-/);
  assert.deepEqual((await stdoutOf('ipset', 'list', '-n')).trim().split('\n'), ['CLAW-HAIRPIN']);
});

test('from the node and from workloads, over TCP and UDP, a client stays at one endpoint for all ports', async () => {
  await Promise.all(['a', 'b', 'c', 'd'].map((name) => agent.server(name, { ...WEB, listen: ['tcp:8080', 'udp:8080'] })));
  const clients = [host, ...(await Promise.all(['x', 'y', 'z'].map(async (name) => inside(await agent.workload(name, { command: ['sleep', '1000'] })))))];
  const ports = [
    { name: 'tcp', port: 80, targetPort: 8080 },
    { name: 'udp', port: 80, targetPort: 8080, protocol: 'udp' },
  ];
  const vip = await agent.service('web', { selector: WEB.labels, ports, sessionAffinity: { type: 'clientIP' } });
  for (const client of clients) {
    const places = new Set<string>();
    for (let n = 0; n < 12; n += 1) places.add(answered(await client.tcp(vip, 80)).name).add(answered(await client.udp(vip, 80)).name);
    assert.equal(places.size, 1, [...places].join(', '));
  }
});

test('who has not connected for the timeout is balanced anew, who connects meanwhile is not', async () => {
  await Promise.all(['a', 'b'].map((name) => agent.server(name, WEB)));
  const vip = await agent.service('web', { ...STICKY, sessionAffinity: { type: 'clientIP', timeoutSeconds: 3 } });
  const [steady = '', ...others] = CLIENTS;
  const place = await placeOf(vip, steady);
  const first = new Map(await Promise.all(others.slice(0, 60).map(async (client) => [client, await placeOf(vip, client)] as const)));
  for (let n = 0; n < 10; n += 1) {
    await sleep(500);
    assert.equal(await placeOf(vip, steady), place, 'each connection renews it');
  }
  let moved = 0;
  for (const [client, earlier] of first) if ((await placeOf(vip, client)) !== earlier) moved += 1;
  assert.ok(moved > 8, `${moved} of 60 moved after 5 s`);
});

test('when a set is full, others come through all the same and are balanced at random', async () => {
  await Promise.all(['a', 'b'].map((name) => agent.server(name, WEB)));
  const vip = await agent.service('web', STICKY);
  for (const name of (await stdoutOf('ipset', 'list', '-n')).trim().split('\n').filter((set) => set.startsWith('CLAW-A-'))) {
    // Another set with room for few takes the place of ours, as if 65,536 clients had come.
    await run(['ipset', 'create', 'SMALL', 'hash:ip', 'family', 'inet', 'hashsize', '64', 'maxelem', '2', 'timeout', '86400']);
    await run(['ipset', 'swap', 'SMALL', name]);
    await run(['ipset', 'destroy', 'SMALL']);
  }
  const first = await placesOf(vip);
  assert.ok((await memberCount()) <= 4);
  const second = await placesOf(vip);
  const moved = CLIENTS.filter((client) => first.get(client) !== second.get(client)).length;
  assert.ok(moved > 90, `${moved} of 300 moved`);
});

async function placesOf(vip: string): Promise<Map<string, string>> {
  const places = new Map<string, string>();
  for (const client of CLIENTS) places.set(client, await placeOf(vip, client));
  return places;
}

async function placeOf(vip: string, from: string): Promise<string> {
  return answered(await outside.client.tcp(vip, 80, { from })).name;
}

/** Of all sets of affinity together. */
async function memberCount(): Promise<number> {
  return (await stdoutOf('ipset', 'save')).split('\n').filter((line) => line.startsWith('add CLAW-A-')).length;
}
