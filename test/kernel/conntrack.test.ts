/** What conntrack remembers of UDP flows on the real kernel: where a flow goes before and after its entries are deleted. */
import { strict as assert } from 'node:assert';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openConntrack } from '../../src/drivers/conntrack.ts';
import { ipv4 } from '../../src/model/address.ts';
import { enterNamespace, stdoutOf } from './namespace.ts';

const VIP = ipv4.parse('10.201.0.7');
const ENDPOINTS = [ipv4.parse('10.200.1.2'), ipv4.parse('10.200.1.3')] as const;
const conntrack = openConntrack();
const servers: Socket[] = [];

before(async () => {
  await enterNamespace();
  for (const address of [VIP, ...ENDPOINTS]) await stdoutOf('ip', 'addr', 'add', `${address}/32`, 'dev', 'lo');
  for (const address of ENDPOINTS) servers.push(await answerAt(address));
});

after(() => {
  for (const server of servers) server.close();
});

test('a flow sticks to its endpoint until its entries are deleted, then it moves', async () => {
  const client = await clientSocket();
  await translateTo(ENDPOINTS[0]);
  assert.equal(await ask(client), ENDPOINTS[0]);
  await translateTo(ENDPOINTS[1]);
  assert.equal(await ask(client), ENDPOINTS[0], 'the kernel no longer remembers flows: this test shows nothing');
  await conntrack.flush([{ type: 'udp-endpoint', clusterIp: VIP, endpointIp: ENDPOINTS[1] }]);
  assert.equal(await ask(client), ENDPOINTS[0], 'the flow of another endpoint was deleted');
  await conntrack.flush([{ type: 'udp-endpoint', clusterIp: VIP, endpointIp: ENDPOINTS[0] }]);
  assert.equal(await ask(client), ENDPOINTS[1]);
  client.close();
});

test('all entries of an address go, whichever side of a flow it is on', async () => {
  const client = await clientSocket();
  await ask(client);
  assert.ok((await entriesOf(ENDPOINTS[1])) > 0);
  await conntrack.flush([{ type: 'address', ip: ENDPOINTS[1] }]);
  assert.equal(await entriesOf(ENDPOINTS[1]), 0);
  await ask(client);
  await conntrack.flush([{ type: 'address', ip: VIP }]);
  assert.equal(await entriesOf(VIP), 0);
  client.close();
});

test('nothing to delete is no error, an abort ends with its reason', async () => {
  await conntrack.flush([
    { type: 'udp-endpoint', clusterIp: VIP, endpointIp: ipv4.parse('192.0.2.1') },
    { type: 'address', ip: ipv4.parse('192.0.2.1') },
  ]);
  await conntrack.flush([]);
  await assert.rejects(conntrack.flush([{ type: 'address', ip: ipv4.parse('192.0.2.1') }], AbortSignal.abort(new Error('enough'))), { message: 'enough' });
});

test('the size of the table is told', async () => {
  const client = await clientSocket();
  await ask(client);
  const { entries, maximum } = (await conntrack.size()) ?? assert.fail('nothing is tracked');
  assert.ok(entries > 0);
  assert.ok(maximum > entries);
  client.close();
});

/** Answers every datagram with the address it was sent to. */
async function answerAt(address: string): Promise<Socket> {
  const socket = createSocket('udp4', (_, from) => socket.send(address, from.port, from.address));
  socket.bind(8053, address);
  await once(socket, 'listening');
  return socket;
}

async function clientSocket(): Promise<Socket> {
  const socket = createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return socket;
}

async function translateTo(endpoint: string): Promise<void> {
  await stdoutOf('iptables', '-t', 'nat', '-F', 'OUTPUT');
  await stdoutOf('iptables', '-t', 'nat', '-A', 'OUTPUT', '-d', VIP, '-p', 'udp', '--dport', '53', '-j', 'DNAT', '--to-destination', `${endpoint}:8053`);
}

async function ask(client: Socket): Promise<string> {
  const answer = once(client, 'message');
  client.send('who?', 53, VIP);
  const late = sleep(3_000, 'no answer', { ref: false });
  const first: unknown = await Promise.race([answer, late]);
  return Array.isArray(first) ? String(first[0]) : String(first);
}

async function entriesOf(address: string): Promise<number> {
  return (await stdoutOf('conntrack', '-L')).split('\n').filter((line) => line.includes(`=${address} `)).length;
}
