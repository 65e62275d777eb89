/** What policies deny and would deny, through the whole agent: real policies, real packets, network.flows and network.status. */
import { strict as assert } from 'node:assert';
import { after, afterEach, test } from 'node:test';
import { z } from 'zod';
import { flow } from '../../src/model/flow.ts';
import { answered, closeEverything, inside, openTestAgent, processesRunning, startAgentProcess, until } from './agent-fixture.ts';
import { IPTABLES } from './backend.ts';
import { enterNamespace, stdoutOf } from './namespace.ts';

after(closeEverything);
await enterNamespace();
const agent = await openTestAgent();
const answer = z.object({ flows: z.array(flow), count: z.number(), auditWorks: z.boolean(), reason: z.string().optional(), dropped: z.number().optional(), listeningSince: z.string() });
const status = z.looseObject({ audit: z.object({ works: z.boolean(), denied: z.number(), audited: z.number(), reason: z.string().optional() }), warnings: z.array(z.string()) });

async function flows(params: Readonly<Record<string, unknown>> = {}): Promise<z.infer<typeof answer>> {
  return answer.parse(await agent.invoke('network.flows', params));
}

async function works(): Promise<void> {
  await until('the audit works', async () => assert.ok((await flows()).auditWorks));
}

afterEach(async () => {
  for (const name of ['closed', 'trial', 'no-node']) await agent.invoke('network.policy.delete', { name }).catch(() => undefined);
  await agent.clear();
});

test('the self-test proves soon after the start that events are told', async () => {
  await works();
  const { audit, warnings } = status.parse(await agent.invoke('network.status'));
  assert.deepEqual({ audit, warnings }, { audit: { works: true, denied: 0, audited: 0 }, warnings: [] });
});

test('a denied connection is told with both ends, port, policy and time', async () => {
  await agent.server('db', { labels: { app: 'db' } });
  const web = await agent.server('web', { labels: { app: 'web' } });
  const db = await agent.invoke('workload.get', { name: 'db' });
  await agent.invoke('network.policy.create', { name: 'closed', selector: { app: 'db' }, ingress: [] });
  const since = new Date(Date.now() - 1000).toISOString();
  const { error } = await inside(web).tcp(String(db['meshIp']), 8080);
  assert.notEqual(error, undefined);
  const { flows: [told], count } = await until('it is told', async () => {
    const found = await flows({ workload: 'db', verdict: 'deny', since });
    assert.ok(found.count > 0);
    return found;
  });
  assert.ok(told !== undefined && count === 1);
  const { time, count: attempts, ...rest } = told;
  assert.deepEqual(rest, {
    from: 'default/web',
    fromIp: web.ip,
    to: 'default/db',
    toIp: db['meshIp'],
    port: 8080,
    protocol: 'tcp',
    verdict: 'deny',
    direction: 'ingress',
    policy: 'default/closed',
    mode: 'enforce',
  });
  assert.ok(attempts >= 1 && time > since);
  assert.equal((await flows({ workload: 'web', verdict: 'audit' })).count, 0);
});

test('in audit mode it passes and is told; through a virtual IP the endpoint is named', async () => {
  await agent.server('db', { labels: { app: 'db' } });
  const web = await agent.server('web', { labels: { app: 'web' } });
  const vip = await agent.service('db', { selector: { app: 'db' }, port: 80, targetPort: 8080 });
  await agent.invoke('network.policy.create', { name: 'trial', selector: { app: 'web' }, egress: [], mode: 'audit' });
  assert.equal(answered(await inside(web).tcp(vip, 80)).name, 'db');
  const { flows: [told] } = await until('it is told', async () => {
    const found = await flows({ verdict: 'audit' });
    assert.ok(found.count > 0);
    return found;
  });
  assert.deepEqual([told?.from, told?.to, told?.port, told?.direction, told?.policy, told?.mode], ['default/web', 'default/db', 8080, 'egress', 'default/trial', 'audit']);
});

test('what a workload may not ask of its node is told as such', async () => {
  const web = await agent.server('web', { labels: { app: 'web' } });
  await agent.invoke('network.policy.create', { name: 'no-node', selector: { app: 'web' }, egress: [] });
  await inside(web).tcp('10.200.1.1', 2222);
  const { flows: [told] } = await until('it is told', async () => {
    const found = await flows({ workload: 'web', verdict: 'deny' });
    assert.ok(found.flows[0]?.direction === 'host');
    return found;
  });
  assert.deepEqual([told?.to, told?.port, told?.policy], ['entity:host', 2222, 'default/no-node']);
});

test('when the log is not read any more, answers and status say so, and soon it is again', async () => {
  await works();
  const [pid = 0] = await processesRunning('ulogd.conf');
  process.kill(pid, 'SIGKILL');
  const { warnings } = await until('it is noticed', async () => {
    const found = status.parse(await agent.invoke('network.status'));
    assert.equal(found.audit.works, false);
    return found;
  });
  assert.ok(warnings.some((warning) => warning.startsWith('what policies deny is not told in network.flows: ulogd has ended')), warnings.join('\n'));
  await works();
  assert.deepEqual(status.parse(await agent.invoke('network.status')).warnings, []);
});

test('drift that takes the rule of the self-test away is repaired, and the audit goes on working', async () => {
  await works();
  await stdoutOf(IPTABLES, '-D', 'CLAW-OUTPUT', '1');
  await until('the rule is back', async () => assert.match(await stdoutOf(`${IPTABLES}-save`, '-t', 'filter'), /--nflog-prefix "claw selftest"/));
  await works();
});

test('an agent that is killed leaves no ulogd behind, and the next one listens', async () => {
  await agent.close();
  assert.deepEqual(await processesRunning('ulogd.conf'), []);
  const { kill } = await startAgentProcess();
  await until('ulogd runs', async () => assert.equal((await processesRunning('ulogd.conf')).length, 1));
  await kill();
  await until('ulogd is gone', async () => assert.deepEqual(await processesRunning('ulogd.conf'), []));
  await agent.reopen();
  await works();
});
