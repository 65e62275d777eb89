/** Existing network namespaces as workloads: attached beside their own network, watched, detached without a trace, and refused where they are not anybody's to give. */
import { strict as assert } from 'node:assert';
import { symlink, writeFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { z } from 'zod';
import { start } from '../../src/drivers/exec.ts';
import { ClawError } from '../../src/errors.ts';
import { answered, closeEverything, host, inside, openTestAgent, serverCommand, startAgentProcess, until, type TestAgent } from './agent-fixture.ts';
import { enterNamespace, stdoutOf } from './namespace.ts';

const attached = z.object({ id: z.string(), state: z.string(), runtime: z.string(), meshIp: z.string(), enforced: z.boolean(), message: z.string().optional() });
const servers: { kill(): unknown }[] = [];
let agent: TestAgent;

before(async () => {
  await enterNamespace();
  agent = await openTestAgent();
});
after(async () => {
  for (const server of servers) server.kill();
  await closeEverything();
});

const get = async (name: string) => attached.parse(await agent.invoke('workload.get', { name }));

/** A namespace with a network and a server of its own, as somebody else may have made it. */
async function makeLab(name: string): Promise<void> {
  await stdoutOf('ip', 'netns', 'add', name);
  await stdoutOf('ip', '-n', name, 'link', 'set', 'lo', 'up');
  const [program = '', ...args] = serverCommand(name, ['tcp:8080']);
  servers.push(start(['ip', 'netns', 'exec', name, program, ...args], { stdio: 'ignore' }));
}

/** Its interfaces, addresses and routes, without what counts or ages. */
const stateOf = async (name: string): Promise<string> =>
  (await Promise.all([stdoutOf('ip', '-n', name, '-o', 'addr'), stdoutOf('ip', '-n', name, 'route', 'show', 'table', 'all')])).join('');

test('a namespace gets an address, serves behind a service, and reaches other workloads', async () => {
  await makeLab('lab');
  const untouched = await stateOf('lab');
  const made = attached.parse(await agent.invoke('workload.attach', { name: 'lab', labels: { app: 'lab' }, ports: [{ name: 'http', port: 8080 }], netns: '/run/netns/lab' }));
  assert.deepEqual([made.state, made.runtime, made.enforced], ['running', 'attached', true]);
  const vip = await agent.service('lab', { selector: { app: 'lab' }, port: 80, targetPort: 'http' });
  await until('the service answers', async () => assert.equal(answered(await host.tcp(vip, 80)).name, 'lab'));
  const peer = await agent.server('peer');
  assert.equal(answered(await inside({ netns: 'lab' }).tcp(peer.ip, 8080)).peer, made.meshIp);
  assert.equal(answered(await inside(peer).tcp(vip, 80)).name, 'lab');
  assert.match(await stdoutOf('ip', '-n', 'lab', 'route'), /^default via 10\.200\.1\.1 dev claw-mesh/m);
  await agent.stop('peer');
  const detached = await agent.invoke('workload.detach', { name: 'lab' });
  assert.deepEqual([detached['stopped'], detached['released'], detached['enforced']], [true, made.meshIp, true]);
  assert.equal(await stateOf('lab'), untouched);
  assert.doesNotMatch(await stdoutOf('ip', 'netns'), /claw-/);
  await agent.invoke('service.delete', { name: 'lab' });
});

test('a namespace with a default route of its own keeps it, and reaches virtual IPs through ours', async () => {
  await makeLab('routed');
  await stdoutOf('ip', '-n', 'routed', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'other0');
  for (const line of ['addr add 192.0.2.9/24 dev eth0', 'link set eth0 up', 'link set other0 up', 'route add default via 192.0.2.1']) await stdoutOf('ip', '-n', 'routed', ...line.split(' '));
  const ipv6 = await stdoutOf('ip', 'netns', 'exec', 'routed', 'cat', '/proc/sys/net/ipv6/conf/all/disable_ipv6', '/proc/sys/net/ipv4/ip_unprivileged_port_start');
  const routes = (await stdoutOf('ip', '-n', 'routed', 'route')).trim();
  const made = attached.parse(await agent.invoke('workload.attach', { name: 'routed', netns: '/var/run/netns/routed' }));
  await agent.server('peer', { labels: { app: 'peer' } });
  const vip = await agent.service('peer', { selector: { app: 'peer' }, port: 80, targetPort: 8080 });
  assert.equal(answered(await inside({ netns: 'routed' }).tcp(vip, 80)).peer, made.meshIp);
  const now = await stdoutOf('ip', '-n', 'routed', 'route');
  for (const line of routes.split('\n')) assert.ok(now.includes(line), line);
  assert.equal(now.match(/^default/gm)?.length, 1);
  assert.equal(await stdoutOf('ip', 'netns', 'exec', 'routed', 'cat', '/proc/sys/net/ipv6/conf/all/disable_ipv6', '/proc/sys/net/ipv4/ip_unprivileged_port_start'), ipv6);
  await agent.invoke('workload.detach', { name: 'routed' });
  assert.equal((await stdoutOf('ip', '-n', 'routed', 'route')).trim(), routes);
  await agent.stop('peer');
  await agent.invoke('service.delete', { name: 'peer' });
});

test('one that vanishes is no endpoint any more, and is attached again when there is one of its name', async () => {
  await makeLab('brief');
  const made = attached.parse(await agent.invoke('workload.attach', { name: 'brief', netns: '/run/netns/brief' }));
  await stdoutOf('ip', 'netns', 'del', 'brief');
  await until('its end is seen', async () => assert.equal((await get('brief')).state, 'exited'));
  assert.doesNotMatch(await stdoutOf('ip', '-o', 'link'), new RegExp(`clawv${made.id}`));
  await makeLab('brief');
  await until('it is attached again', async () => assert.equal(answered(await host.tcp(made.meshIp, 8080)).name, 'brief'));
  assert.equal((await get('brief')).state, 'running');
  await agent.invoke('workload.detach', { name: 'brief' });
});

test('what others remove of it comes back, and its host end too', async () => {
  await makeLab('damaged');
  const made = attached.parse(await agent.invoke('workload.attach', { name: 'damaged', netns: '/run/netns/damaged' }));
  await stdoutOf('ip', 'link', 'del', `clawv${made.id}`);
  await until('the link is back', async () => assert.equal(answered(await host.tcp(made.meshIp, 8080)).name, 'damaged'));
  await stdoutOf('ip', 'netns', 'del', `claw-${made.id}`);
  await stdoutOf('ip', 'link', 'del', `clawv${made.id}`);
  await until('name and link are back', async () => assert.equal(answered(await host.tcp(made.meshIp, 8080)).name, 'damaged'));
  await agent.invoke('workload.detach', { name: 'damaged' });
});

test('what is no network namespace, or not to be given away, is refused and leaves nothing behind', async () => {
  await makeLab('taken');
  await agent.invoke('workload.attach', { name: 'taken', netns: '/run/netns/taken' });
  const own = await agent.workload('own', { command: ['sleep', '1000000'] });
  await writeFile('/run/netns/plain', '');
  await symlink('/proc/self/ns/net', '/run/netns/link');
  await writeFile('/run/netns/host', '');
  await stdoutOf('mount', '--bind', '/proc/self/ns/net', '/run/netns/host');
  await writeFile('/run/netns/mount', '');
  await stdoutOf('mount', '--bind', '/proc/self/ns/mnt', '/run/netns/mount').catch(() => 'the kernel lets nobody pin its own mount namespace below itself');
  for (const [netns, code] of [
    ['/run/netns/absent', 'INVALID_ARGUMENT'],
    ['/run/netns/plain', 'INVALID_ARGUMENT'],
    ['/run/netns/link', 'INVALID_ARGUMENT'],
    ['/run/netns/mount', 'INVALID_ARGUMENT'],
    ['/run/netns/host', 'NOT_ALLOWED'],
    ['/run/netns/taken', 'CONFLICT'],
    [`/run/netns/${own.netns}`, 'INVALID_ARGUMENT'],
    ['/run/netns/../../proc/1/ns/net', 'INVALID_ARGUMENT'],
    ['/run/netns/..', 'INVALID_ARGUMENT'],
    [`/proc/${process.pid}/ns/net`, 'INVALID_ARGUMENT'],
    ['/etc/passwd', 'INVALID_ARGUMENT'],
  ]) {
    await assert.rejects(agent.invoke('workload.attach', { name: 'x', netns }), (error) => error instanceof ClawError && error.code === code && error.path === 'netns', `${netns}`);
  }
  for (const params of [{ name: 'x' }, { name: 'x', netns: '/run/netns/taken', container: 'y' }]) await assert.rejects(agent.invoke('workload.attach', params), { code: 'INVALID_ARGUMENT', path: 'netns' });
  await assert.rejects(agent.invoke('workload.attach', { name: 'x', container: 'y' }), { code: 'NOT_SUPPORTED', path: 'container' });
  await assert.rejects(agent.invoke('workload.get', { name: 'x' }), { code: 'WORKLOAD_NOT_FOUND' });
  await assert.rejects(agent.invoke('workload.detach', { name: 'own' }), { code: 'INVALID_ARGUMENT', path: 'name' });
  await assert.rejects(agent.invoke('workload.stop', { name: 'taken' }), { code: 'INVALID_ARGUMENT', path: 'name' });
  await assert.rejects(agent.invoke('workload.logs', { name: 'taken' }), { code: 'NOT_SUPPORTED' });
  await agent.stop('own');
  await agent.invoke('workload.detach', { name: 'taken' });
});

test('a killed agent\'s successor finds it attached, and cleanup takes our part away only', async () => {
  await makeLab('kept');
  const untouched = await stateOf('kept');
  await agent.close();
  const first = await startAgentProcess();
  const made = attached.parse(await agent.invoke('workload.attach', { name: 'kept', netns: '/run/netns/kept' }));
  await first.kill();
  assert.equal(answered(await host.tcp(made.meshIp, 8080)).name, 'kept');
  await agent.reopen();
  assert.deepEqual([(await get('kept')).state, (await get('kept')).meshIp], ['running', made.meshIp]);
  assert.equal(answered(await host.tcp(made.meshIp, 8080)).name, 'kept');
  await agent.close();
  assert.equal((await agent.cleanup()).interfaces, 1);
  assert.equal(await stateOf('kept'), untouched);
  assert.match(await stdoutOf('ip', 'netns'), /^kept\b/m);
});
