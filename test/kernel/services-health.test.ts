/** Health checks on the real kernel: who gets traffic, how fast that follows, and what a restart keeps. */
import { strict as assert } from 'node:assert';
import { after, afterEach, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { answered, assertRefused, closeEverything, host, inside, openTestAgent, savedRules, serverCommand, startAgentProcess, until, type TestAgent } from './agent-fixture.ts';
import type { Client } from './agent-prober.ts';
import { enterNamespace, stdoutOf } from './namespace.ts';

const WEB = { labels: { app: 'web' } };
const FAST = { intervalMs: 100, timeoutMs: 100, failures: 2 };
const shown = z.object({
  total: z.int(),
  healthy: z.int(),
  endpoints: z.array(z.object({ ip: z.string(), healthy: z.boolean(), reason: z.string().optional() })),
});
let agent: TestAgent;

before(async () => {
  await enterNamespace();
  agent = await openTestAgent();
});

afterEach(() => agent.clear());

after(closeEverything);

test('only those that pass the check get traffic; why the others do not is told, and they come in as soon as they pass', async () => {
  const good = await switchable('good', '200');
  await switchable('bad', '503');
  const vip = await agent.service('web', { selector: WEB.labels, port: 80, targetPort: 8080, healthCheck: { type: 'http', path: '/ready', ...FAST } });
  const first = await untilHealthy(1);
  assert.deepEqual(first.endpoints.filter(({ healthy }) => healthy).map(({ ip }) => ip), [good.ip]);
  // The reason is that of the latest probe, and on a busy machine the server may have greeted one before its request came.
  await until('the reason is told', async () => assert.deepEqual((await endpoints()).endpoints.filter(({ healthy }) => !healthy).map(({ reason }) => reason), ['HTTP 503']));
  assert.deepEqual(await names(host, vip, 20), new Set(['good']));
  await turn('bad', '200');
  await untilHealthy(2);
  assert.deepEqual(await names(host, vip, 40), new Set(['good', 'bad']));
  const { healthCheck } = await agent.invoke('service.get', { name: 'web' });
  assert.deepEqual(healthCheck, { type: 'http', path: '/ready', ...FAST, successes: 1 });
});

test('one that fails leaves within its thresholds, the last one leaves a refusal, from the node and from a workload; a UDP flow is refused too', async () => {
  await switchable('a', '200', ['udp:8080']);
  await switchable('b', '200', ['udp:8080']);
  const within = inside(await agent.workload('client', { command: ['sleep', '1000'] }));
  const vip = await agent.service('web', {
    selector: WEB.labels,
    ports: [
      { name: 'tcp', port: 80, targetPort: 8080 },
      { name: 'udp', port: 80, targetPort: 8080, protocol: 'udp' },
    ],
    healthCheck: { type: 'http', ...FAST },
  });
  await untilHealthy(2);
  answered(await within.udp(vip, 80, { key: 'flow' }));
  await turn('a', '500');
  await untilHealthy(1);
  await until('the flow has moved', async () => assert.equal(answered(await within.udp(vip, 80, { key: 'flow' })).name, 'b'));
  assert.deepEqual(await names(within, vip, 15), new Set(['b']));
  await turn('b', '500');
  await untilHealthy(0);
  await until('the flow is refused', async () => assertRefused(await within.udp(vip, 80, { key: 'flow' })));
  for (const client of [host, within]) assertRefused(await client.tcp(vip, 80));
  assert.doesNotMatch(await savedRules('-t', 'nat'), /DNAT/);
});

test('what no longer accepts leaves a service with a TCP check, and the ingress answers 503 once nobody is left', async () => {
  await agent.workload('web', { ...WEB, command: serverCommand('web', ['http:8080']) });
  const vip = await agent.service('web', { selector: WEB.labels, port: 80, targetPort: 8080, healthCheck: { type: 'tcp', ...FAST } });
  await agent.invoke('ingress.create', { name: 'in', rules: [{ host: 'www.example.com', service: 'web' }] });
  await untilHealthy(1);
  const ask = (): Promise<string> => stdoutOf('curl', '-s', '-o', '/dev/null', '-w', '%{http_code}', '-H', 'Host: www.example.com', 'http://127.0.0.1:8443/');
  await until('the ingress serves it', async () => assert.equal(await ask(), '200'));
  // Nothing answers on the checked port any more, while the process runs on.
  await agent.invoke('service.update', { name: 'web', targetPort: 9 });
  await untilHealthy(0);
  await until('the ingress knows', async () => assert.equal(await ask(), '503'));
  assertRefused(await host.tcp(vip, 80));
  assert.deepEqual((await untilHealthy(0)).endpoints.map(({ reason }) => reason), ['connection refused']);
});

test('a check that is added to a service in use interrupts nobody, also when it does not pass at first', async () => {
  await switchable('web', '500');
  const vip = await agent.service('web', { selector: WEB.labels, port: 80, targetPort: 8080 });
  answered(await host.tcp(vip, 80));
  const load = hammer(vip);
  await agent.invoke('service.update', { name: 'web', healthCheck: { type: 'http', intervalMs: 1000, timeoutMs: 1000, failures: 3 } });
  assert.equal((await endpoints()).healthy, 1, 'it was in use: three failures take it out');
  await sleep(300);
  assert.deepEqual(await load(), []);
  await untilHealthy(0);
  await agent.invoke('service.update', { name: 'web', healthCheck: null });
  assert.equal((await endpoints()).healthy, 1);
  answered(await host.tcp(vip, 80));
  assert.equal((await agent.invoke('service.get', { name: 'web' }))['healthCheck'], undefined);
});

test('a new endpoint has to pass before it gets traffic, and so has one whose process was started anew', async () => {
  await switchable('a', '200');
  await agent.service('web', { selector: WEB.labels, port: 80, targetPort: 8080, healthCheck: { type: 'http', ...FAST, successes: 2 } });
  await untilHealthy(1);
  await switchable('b', '500');
  await until('b is probed', async () => assert.ok((await endpoints()).endpoints.some(({ reason }) => reason === 'HTTP 500')));
  assert.equal((await endpoints()).healthy, 1);
});

test('a restart of the agent takes nobody out and lets nobody in; nor does a SIGKILL while one is failing', async () => {
  await switchable('good', '200');
  await switchable('bad', '500');
  await agent.service('web', { selector: WEB.labels, port: 80, targetPort: 8080, healthCheck: { type: 'http', intervalMs: 500, timeoutMs: 500, failures: 4 } });
  const vip = z.string().parse((await agent.invoke('service.get', { name: 'web' }))['clusterIp']);
  await untilHealthy(1);
  const rules = await savedRules('-t', 'nat');
  await agent.close();
  const load = hammer(vip);
  await agent.reopen();
  assert.equal(await savedRules('-t', 'nat'), rules, 'nothing was programmed anew');
  assert.equal((await endpoints()).healthy, 1);
  await agent.close();
  const first = await startAgentProcess();
  await first.kill();
  const second = await startAgentProcess();
  assert.equal(await savedRules('-t', 'nat'), rules);
  assert.deepEqual(await load(), []);
  await turn('good', '500');
  await until('the next agent takes it out', async () => assert.doesNotMatch(await savedRules('-t', 'nat'), /DNAT/));
  await second.kill();
  await agent.reopen();
  assert.equal((await endpoints()).healthy, 0, 'an agent that starts lets nobody in that the kernel has not');
});

test('probes end when a workload is told to stop, and when the check or the service goes', async () => {
  const web = await switchable('web', '200');
  await agent.service('web', { selector: WEB.labels, port: 80, targetPort: 8080, healthCheck: { type: 'http', ...FAST } });
  await untilHealthy(1);
  const client = inside(web);
  const probes = async (): Promise<number> => Number(/^probes (\d+)/.exec((await client.tcp('127.0.0.1', 8081)).answer ?? '')?.[1]);
  const first = await probes();
  await until('it is probed', async () => assert.ok((await probes()) > first + 3));
  await agent.invoke('service.update', { name: 'web', healthCheck: null });
  await assertNoMore(probes);
  await agent.invoke('service.update', { name: 'web', healthCheck: { type: 'http', ...FAST } });
  const again = await probes();
  await until('it is probed again', async () => assert.ok((await probes()) > again + 3));
  await agent.invoke('service.delete', { name: 'web' });
  await assertNoMore(probes);
});

test('what a check can not be is refused, and nothing is stored', async () => {
  const refusals: readonly (readonly [Record<string, unknown>, string])[] = [
    [{ port: 53, protocol: 'udp', healthCheck: { type: 'tcp' } }, 'healthCheck'],
    [{ port: 80, healthCheck: { type: 'icmp' } }, 'healthCheck.type'],
    [{ port: 80, healthCheck: { type: 'tcp', path: '/' } }, 'healthCheck.path'],
    [{ port: 80, healthCheck: { type: 'http', path: 'x' } }, 'healthCheck.path'],
    [{ port: 80, healthCheck: { type: 'http', intervalMs: 1000, timeoutMs: 2000 } }, 'healthCheck.timeoutMs'],
    [{ port: 80, healthCheck: { type: 'tcp', failures: 0 } }, 'healthCheck.failures'],
    [{ port: 80, healthCheck: { type: 'tcp', colour: 'red' } }, 'healthCheck.colour'],
    [{ port: 80, sessionAffinity: { type: 'cookie' } }, 'sessionAffinity.type'],
    [{ port: 80, sessionAffinity: { type: 'clientIP', timeoutSeconds: 0 } }, 'sessionAffinity.timeoutSeconds'],
    [{ port: 80, sessionAffinity: { type: 'clientIP', timeoutSeconds: 86_401 } }, 'sessionAffinity.timeoutSeconds'],
    [{ port: 80, drainSeconds: 3601 }, 'drainSeconds'],
    [{ port: 80, drainSeconds: -1 }, 'drainSeconds'],
  ];
  for (const [params, path] of refusals) await assert.rejects(agent.invoke('service.create', { name: 'no', ...params }), { code: 'INVALID_ARGUMENT', path });
  assert.equal((await agent.invoke('service.list'))['count'], 0);
  await agent.service('web', { port: 80, healthCheck: { type: 'tcp' } });
  await assert.rejects(agent.invoke('service.update', { name: 'web', protocol: 'udp' }), { code: 'INVALID_ARGUMENT', path: 'healthCheck' });
  await agent.invoke('service.update', { name: 'web', protocol: 'udp', healthCheck: null });
});

/** A server on 8080 whose answer is that of its file: the status of HTTP. On 8081 it tells how often it was asked. */
async function switchable(name: string, status: string, others: readonly string[] = []): Promise<{ readonly ip: string; readonly netns: string }> {
  const made = await agent.workload(name, { ...WEB, command: [process.execPath, '-e', SERVER, name, status, ...others] });
  await until('it answers', async () => answered(await host.tcp(made.ip, 8081)));
  servers.set(name, made.ip);
  return made;
}

async function turn(name: string, status: string): Promise<void> {
  await stdoutOf('curl', '-s', `http://${servers.get(name) ?? ''}:8082/${status}`);
}

const servers = new Map<string, string>();

async function endpoints(): Promise<z.infer<typeof shown>> {
  return shown.parse(await agent.invoke('service.endpoints', { name: 'web' }));
}

function untilHealthy(count: number): Promise<z.infer<typeof shown>> {
  return until(`${count} are healthy`, async () => {
    const now = await endpoints();
    assert.equal(now.healthy, count);
    return now;
  });
}

async function names(client: Client, vip: string, times: number): Promise<Set<string>> {
  const seen = new Set<string>();
  for (let n = 0; n < times; n += 1) seen.add(answered(await client.tcp(vip, 80)).name);
  return seen;
}

/** Connects without a pause until told to end, and gives what failed. */
function hammer(vip: string): () => Promise<string[]> {
  let going = true;
  const failed: string[] = [];
  const work = (async () => {
    while (going) {
      const { error } = await host.tcp(vip, 80);
      if (error !== undefined) failed.push(error);
      await sleep(2);
    }
  })();
  return async () => {
    going = false;
    await work;
    return failed;
  };
}

async function assertNoMore(probes: () => Promise<number>): Promise<void> {
  const at = await probes();
  await sleep(600);
  assert.equal(await probes(), at);
}

/** HTTP and the fixture's greeting on one port: who says nothing for a moment is greeted. */
const SERVER = `
  const [name, status, ...others] = process.argv.slice(1);
  const net = require('node:net');
  let answer = status;
  let probes = 0;
  net.createServer((socket) => {
    socket.on('error', () => {});
    const greet = setTimeout(() => socket.write(name + ' ' + socket.remoteAddress + '\\n'), 40);
    socket.on('data', (text) => {
      clearTimeout(greet);
      if (!String(text).startsWith('GET ')) return;
      probes += 1;
      socket.end('HTTP/1.1 ' + answer + ' X\\r\\ncontent-length: 0\\r\\n\\r\\n');
    });
  }).listen(8080, '0.0.0.0');
  net.createServer((socket) => socket.on('error', () => {}).end('probes ' + probes + '\\n')).listen(8081, '0.0.0.0');
  require('node:http').createServer((request, response) => { answer = request.url.slice(1); response.end(); }).listen(8082, '0.0.0.0');
  for (const entry of others) {
    const socket = require('node:dgram').createSocket('udp4');
    socket.on('error', () => {});
    socket.on('message', (_, peer) => socket.send(name + ' ' + peer.address, peer.port, peer.address));
    socket.bind(Number(entry.split(':')[1]), '0.0.0.0');
  }
`;
