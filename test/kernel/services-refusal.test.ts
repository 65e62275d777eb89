/** What no service answers is refused at once and reaches nobody, and UDP clients leave endpoints that are gone; on the real kernel. */
import { strict as assert } from 'node:assert';
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { after, afterEach, before, test } from 'node:test';
import { run } from '../../src/drivers/exec.ts';
import { answered, assertRefused, closeEverything, host, inside, openTestAgent, processesRunning, savedRules, until, type TestAgent } from './agent-fixture.ts';
import type { Client } from './agent-prober.ts';
import { enterNamespace } from './namespace.ts';

const LISTENED_PORT = 8600;
const DNS = { labels: { app: 'dns' }, listen: ['udp:5300'] };
let agent: TestAgent;
const strayed: string[] = [];
const listener = createServer((socket) => {
  strayed.push(`tcp from ${socket.remoteAddress ?? ''}`);
  socket.destroy();
});
const udpListener = createSocket('udp4', (_, peer) => strayed.push(`udp from ${peer.address}`));

before(async () => {
  await enterNamespace();
  // Whoever listens on every address of the host must still not be found behind a virtual one.
  await new Promise<void>((resolve) => listener.listen(LISTENED_PORT, '0.0.0.0', resolve));
  await new Promise<void>((resolve) => udpListener.bind(LISTENED_PORT, '0.0.0.0', resolve));
  agent = await openTestAgent();
});

afterEach(() => agent.clear());

after(async () => {
  listener.close();
  udpListener.close();
  await closeEverything();
});

test('unassigned virtual IPs, services without endpoints, wrong ports and deleted services refuse TCP and UDP at once, from host and workload', async (t) => {
  const within = await workloadClient('client');
  const empty = await agent.service('empty', {
    selector: { app: 'nobody' },
    ports: [
      { name: 'tcp', port: LISTENED_PORT },
      { name: 'udp', port: LISTENED_PORT, protocol: 'udp' },
    ],
  });
  const other = await agent.service('other', { port: 80, endpoints: [{ ip: '192.0.2.9' }] });
  const deleted = await agent.service('deleted', { port: LISTENED_PORT, endpoints: [{ ip: '192.0.2.9' }] });
  await agent.invoke('service.delete', { name: 'deleted' });
  const times: number[] = [];
  for (const client of [host, within]) {
    for (const vip of ['10.201.200.200', '10.201.255.254', empty, other, deleted]) {
      for (const attempt of [await client.tcp(vip, LISTENED_PORT), await client.udp(vip, LISTENED_PORT)]) {
        assertRefused(attempt);
        times.push(attempt.ms);
      }
    }
  }
  assert.deepEqual(strayed, []);
  t.diagnostic(`refused after ${median(times).toFixed(1)} ms in the median, ${Math.max(...times).toFixed(1)} ms at most`);
});

test('deleting a service removes every rule with its virtual IP, and the next service gets another one', async () => {
  await agent.server('a', { labels: { app: 'web' } });
  const vip = await agent.service('web', { selector: { app: 'web' }, port: 80, targetPort: 8080 });
  assert.ok((await savedRules()).includes(vip));
  const earlier = (await agent.invoke('network.status'))['allocator'];
  await agent.invoke('service.delete', { name: 'web' });
  assert.ok(!(await savedRules()).includes(vip));
  assert.doesNotMatch(await savedRules('-t', 'nat'), /10\.200\.1\.\d+:|CLAW-VIP-\S+-28/);
  assert.notDeepEqual((await agent.invoke('network.status'))['allocator'], earlier);
  const next = await agent.service('web', { selector: { app: 'web' }, port: 80, targetPort: 8080 });
  assert.equal(lastOctet(next), lastOctet(vip) + 1);
});

test('a UDP client that keeps sending from one port moves when its endpoint stops, is refused after the last one, and finds a new one', async () => {
  await Promise.all(['a', 'b'].map((name) => agent.server(name, DNS)));
  const vip = await agent.service('dns', { selector: DNS.labels, port: 53, protocol: 'udp', targetPort: 5300 });
  const within = await workloadClient('client');
  for (const client of [host, within]) {
    const first = answered(await client.udp(vip, 53, { key: 'steady' })).name;
    for (let n = 0; n < 20; n += 1) assert.equal(answered(await client.udp(vip, 53, { key: 'steady' })).name, first, 'a flow stays at its endpoint');
    await agent.stop(first);
    const second = answered(await client.udp(vip, 53, { key: 'steady' })).name;
    assert.notEqual(second, first);
    await agent.stop(second);
    assertRefused(await client.udp(vip, 53, { key: 'steady' }));
    await Promise.all(['a', 'b'].map((name) => agent.server(name, DNS)));
    assert.ok(['a', 'b'].includes(answered(await client.udp(vip, 53, { key: 'steady' })).name));
  }
});

test('a client that sends on while its endpoint is being stopped loses at most the datagram under way', async () => {
  await Promise.all(['a', 'b'].map((name) => agent.server(name, DNS)));
  const vip = await agent.service('dns', { selector: DNS.labels, port: 53, protocol: 'udp', targetPort: 5300 });
  const first = answered(await host.udp(vip, 53, { key: 'lossless' })).name;
  let stopped = false;
  const stopping = agent.stop(first).then(() => (stopped = true));
  const names = new Set([first]);
  let lost = 0;
  for (let afterwards = 0; afterwards < 10; afterwards += stopped ? 1 : 0) {
    const { answer = '' } = await host.udp(vip, 53, { key: 'lossless', timeoutMs: 500 });
    if (answer === '') lost += 1;
    else names.add(answer.split(' ', 1)[0] ?? '');
  }
  await stopping;
  assert.equal(names.size, 2);
  assert.ok(lost <= 1, `${lost} datagrams were lost`);
});

test('a UDP client follows a changed target port to the same endpoint, and is refused on a port that was taken away', async () => {
  const { ip } = await agent.server('one', { listen: ['udp:5301', 'udp:5302'] });
  const vip = await agent.service('dns', { port: 53, protocol: 'udp', endpoints: [{ ip, port: 5301 }] });
  assert.match((await host.udp(vip, 53, { key: 'ports' })).answer ?? '', / 5301$/);
  await agent.invoke('service.update', { name: 'dns', endpoints: [{ ip, port: 5302 }] });
  assert.match((await host.udp(vip, 53, { key: 'ports' })).answer ?? '', / 5302$/);
  await agent.invoke('service.update', { name: 'dns', port: 54 });
  assertRefused(await host.udp(vip, 53, { key: 'ports' }));
});

test('a UDP client is refused as soon as the service is deleted', async () => {
  await agent.server('a', DNS);
  const vip = await agent.service('dns', { selector: DNS.labels, port: 53, protocol: 'udp', targetPort: 5300 });
  assert.equal(answered(await host.udp(vip, 53, { key: 'deleted' })).name, 'a');
  await agent.invoke('service.delete', { name: 'dns' });
  assertRefused(await host.udp(vip, 53, { key: 'deleted' }));
});

test('a UDP client leaves an endpoint that went away while no agent ran', async () => {
  await Promise.all(['a', 'b'].map((name) => agent.server(name, DNS)));
  const vip = await agent.service('dns', { selector: DNS.labels, port: 53, protocol: 'udp', targetPort: 5300 });
  const first = answered(await host.udp(vip, 53, { key: 'orphan' })).name;
  await agent.close();
  await killServer(first);
  await agent.reopen();
  const second = await until('the client is answered again', async () => answered(await host.udp(vip, 53, { key: 'orphan', timeoutMs: 300 })).name);
  assert.notEqual(second, first);
});

async function workloadClient(name: string): Promise<Client> {
  return inside(await agent.workload(name, { command: ['sleep', '1000'] }));
}

/** Ends the server of this name, as a crash does. */
async function killServer(name: string): Promise<void> {
  // Its supervisor and the process end with each other, so some of these may be gone already.
  const pids = await processesRunning(`${name}\0udp:5300`);
  assert.ok(pids.length > 0);
  await run(['kill', '-KILL', ...pids.map(String)], { okExitCodes: [0, 1] });
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

function lastOctet(ip: string): number {
  return Number(ip.split('.').at(-1));
}
