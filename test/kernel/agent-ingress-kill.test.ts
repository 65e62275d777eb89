/** SIGKILL of the ingress proxy's workers, of what starts them again and of the socket's holder, beside clients that ask without pause; on the real kernel. */
import { strict as assert } from 'node:assert';
import { request } from 'node:http';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAgent, isHolder, isProxy, isProxyParent, killForGood, listProcesses, PROXY_KILLS, proxySupervisor, type ProxyKill } from '../e2e/fixture-processes.ts';
import { closeEverything, openTestAgent, serverCommand, startAgentProcess, until, type TestAgent } from './agent-fixture.ts';
import { enterNamespace } from './namespace.ts';

const PORT = 8443;
let agent: TestAgent;

before(async () => {
  await enterNamespace();
  agent = await openTestAgent();
  const { ip } = await agent.workload('web', { labels: { app: 'web' }, command: serverCommand('web', ['http:8080']) });
  await agent.service('web', { selector: { app: 'web' }, port: 80, targetPort: 8080 });
  await until('the workload answers', () => get(ip, 8080));
  await agent.invoke('ingress.create', { name: 'in', rules: [{ host: 'www.example.com', service: 'web' }] });
  // The agent that opened the sockets is gone in all that follows: what comes after it has to get on with what it finds.
  await agent.close();
});

after(closeEverything);

/** How many workers serve on while the agent is dead, where not both do: their processes are started again by a shell, its own supervisor is not. */
const LEFT_WITHOUT_AGENT: Readonly<Record<string, number>> = {
  'the parent of one worker': 1,
  'the supervisor of one worker': 1,
  'the holder and all of one worker': 1,
};

for (const { what, victims } of PROXY_KILLS) {
  test(`${what}, with an agent: no request that starts afterwards fails, and everything is back`, async () => {
    await withAgent(async () => {
      await complete();
      await killedBesideClients(victims);
      await complete();
    });
  });
}

for (const { what, victims } of PROXY_KILLS) {
  // Nobody is left who could start them, until there is an agent again: that is the test after these.
  if (what === 'all of both workers') continue;
  test(`${what}, without an agent: no request that starts afterwards fails, with the last known routes`, async () => {
    await killedBesideClients(victims);
    await until('they serve', async () => assert.equal((await listProcesses()).filter(isProxy).length, LEFT_WITHOUT_AGENT[what] ?? 2));
    await withAgent(complete);
  });
}

test('all of both workers, without an agent: connections wait for the next agent', async () => {
  await killForGood((all) => all.filter((process) => proxySupervisor(process) !== undefined));
  const waiting = Promise.all([1, 2, 3].map(() => get('127.0.0.1', PORT)));
  await withAgent(async () => {
    assert.deepEqual((await waiting).map(({ status }) => status), [200, 200, 200]);
    await complete();
  });
});

test('everything of the ingress at once, the holder too: the agent opens the sockets again', async () => {
  await withAgent(async () => {
    await complete();
    for (const { pid } of (await listProcesses()).filter((process) => isHolder(process) || proxySupervisor(process) !== undefined)) process.kill(pid, 'SIGKILL');
    await complete();
    assert.equal((await get('127.0.0.1', PORT)).status, 200);
  });
});

test('a worker that hangs, without an agent: the one that stood by takes over, and connections wait until then', async () => {
  await withAgent(complete);
  for (const { pid } of (await listProcesses()).filter(isProxy)) {
    process.kill(pid, 'SIGSTOP');
    const { status } = await get('127.0.0.1', PORT);
    process.kill(pid, 'SIGCONT');
    assert.equal(status, 200);
  }
});

test('a worker that is started again listens only once it has routes, the changed ones too', async () => {
  await withAgent(async () => {
    await complete();
    await agent.invoke('ingress.update', { name: 'in', rules: [{ host: 'www.example.com', service: 'web' }, { host: 'other.example.com', service: 'web' }] });
  });
  for (let round = 0; round < 3; round += 1) {
    for (const { pid } of (await listProcesses()).filter(isProxy)) process.kill(pid, 'SIGKILL');
    assert.equal((await get('127.0.0.1', PORT, 'other.example.com')).status, 200);
  }
});

async function withAgent(work: () => Promise<void>): Promise<void> {
  const { kill } = await startAgentProcess();
  try {
    await work();
  } finally {
    await kill();
  }
}

/** Two workers and a holder run, all with an agent that has found them. */
async function complete(): Promise<void> {
  await until('two workers, their parents and a holder', async () => {
    const all = await listProcesses();
    assert.deepEqual([all.filter(isProxy).length, all.filter(isProxyParent).length, all.filter(isHolder).length], [2, 2, 1]);
    assert.ok(all.some(isAgent));
    const { warnings } = await agent.invoke('network.status');
    assert.deepEqual(warnings ?? [], []);
  });
}

/** Clients on connections of their own from before the kill until well after it. Fails for each request that was begun after it and failed. */
async function killedBesideClients(victims: ProxyKill['victims']): Promise<void> {
  let asking = true;
  const outcomes: { readonly beganMs: number; readonly failure: string | undefined; readonly ms: number }[] = [];
  const client = async (): Promise<void> => {
    while (asking) {
      const beganMs = performance.now();
      const failure = await get('127.0.0.1', PORT).then(({ status }) => (status === 200 ? undefined : `status ${status}`), (error: unknown) => String(error));
      outcomes.push({ beganMs, failure, ms: performance.now() - beganMs });
    }
  };
  const clients = Promise.all([client(), client(), client(), client()]);
  await sleep(200);
  const { killed, deadMs } = await killForGood(victims);
  assert.ok(killed > 0);
  await sleep(1500);
  asking = false;
  await clients;
  const afterwards = outcomes.filter(({ beganMs }) => beganMs > deadMs);
  assert.ok(afterwards.length > 50, `${afterwards.length} requests after the kill`);
  assert.deepEqual(afterwards.filter(({ failure }) => failure !== undefined), []);
  const cut = outcomes.filter(({ failure }) => failure !== undefined).length;
  // What was inside of a killed worker breaks; each client has one request at a time.
  assert.ok(cut <= 4, `${cut} requests were cut`);
  process.stderr.write(`${killed} killed: ${afterwards.length} requests afterwards, 0 failed, the slowest ${Math.round(Math.max(...afterwards.map(({ ms }) => ms)))} ms; ${cut} cut in flight\n`);
}

function get(host: string, port: number, hostHeader = 'www.example.com'): Promise<{ status: number }> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ host, port, headers: { host: hostHeader }, agent: false, timeout: 10_000 }, (response) => {
      response.resume().on('end', () => resolve({ status: response.statusCode ?? 0 })).on('error', reject);
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error('no answer in 10 s'))).on('error', reject).end();
  });
}
