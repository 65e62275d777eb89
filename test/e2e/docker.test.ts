/** Containers and attached networks on a real Docker Engine: run, serve, restart, adoption, the Engine's own restarts, and packets that must not pass. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { IMAGE, openEngine, SOCKET, whyNoEngine, type Engine } from './fixture-engine.ts';
import { openMachine, type Machine, type RunningAgent } from './fixture-machine.ts';

const CONFIG = `{workloads: {docker: {enabled: true, socket: ${SOCKET}}}}`;

/** Says who it is, and ends on TERM at once. */
const serve = (name: string): string[] => ['sh', '-c', `mkdir -p /www; echo ${name} >/www/index.html; echo serving; trap exit TERM; httpd -f -p 8080 -h /www & wait`];

const missing = whyNoEngine();
if (missing === undefined) void suite('with a Docker Engine', body);
else void test('NOT RUN: containers and attached networks', { skip: `no Docker Engine can be started: ${missing}` });

/** Prints the answer, or fails with the reason on stderr; `TimeoutError` when nothing came back at all. */
const CLIENT = `
const [, url, host] = process.argv;
const request = require('http').get(url, { headers: { host }, agent: false, timeout: 2000 }, (response) => {
  response.setEncoding('utf8').on('data', (text) => process.stdout.write(text));
  if (response.statusCode !== 200) process.exitCode = 1;
});
request.on('timeout', () => request.destroy(new Error('no answer'))).on('error', ({ message }) => { process.stderr.write(message); process.exitCode = 1; });
`;

const workload = z.object({ id: z.string(), state: z.string(), meshIp: z.string(), restarts: z.int(), message: z.string().optional(), runtime: z.string() });
const endpoints = z.object({ total: z.int(), healthy: z.int() });

function body(): void {
  let machine: Machine;
  let engine: Engine;
  let agent: RunningAgent;
  before(async () => {
    machine = await openMachine();
    engine = await openEngine(machine);
    await machine.output(['sh', '-c', 'printf "%s" "$1" >/run/config.yaml', 'sh', CONFIG]);
    agent = await machine.up('--config', '/run/config.yaml', '--node', 'n1');
    await machine.invoke('service.create', { name: 'web', selector: { app: 'web' }, port: 80, targetPort: 8080 });
    await machine.invoke('ingress.create', { name: 'front', rules: [{ host: 'www.example.com', service: 'web' }] });
  });
  after(async () => {
    // What stays open would keep this process alive.
    try {
      await engine?.close();
    } finally {
      await machine?.close();
    }
  });

  const get = async (name: string) => workload.parse(await machine.invoke('workload.get', { name }));
  const healthy = async (): Promise<number> => endpoints.parse(await machine.invoke('service.endpoints', { name: 'web' })).healthy;
  const fetchText = async (url: string, host = 'web'): Promise<string> => (await machine.output([process.execPath, '-e', CLIENT, url, host])).trim();
  const byService = (): Promise<string> => fetchText('http://10.201.0.1/');
  const pidOf = async (container: string): Promise<string> => (await engine.docker('inspect', '--format', '{{.State.Pid}}', container)).trim();
  const namespaceOf = async (pid: string): Promise<string> => (await machine.output(['readlink', `/proc/${pid}/ns/net`])).trim();
  const refused = async (command: string, params: unknown): Promise<Record<string, string>> => {
    const { exitCode, stderr } = await machine.clawnode('invoke', command, JSON.stringify(params));
    assert.equal(exitCode, 1, `${command} was not refused`);
    return z.record(z.string(), z.string()).parse(JSON.parse(stderr));
  };

  test('an image runs as a workload, is reached by service and ingress, and has no network of Docker', async () => {
    const made = workload.parse(await machine.invoke('workload.run', { name: 'web-1', labels: { app: 'web' }, image: IMAGE, command: serve('web-1'), env: { COLOUR: 'green' }, restart: 'always' }));
    assert.deepEqual([made.state, made.runtime, made.meshIp], ['running', 'docker', '10.200.1.2']);
    assert.equal(await until(byService), 'web-1');
    assert.equal(await fetchText('http://127.0.0.1:8443/', 'www.example.com'), 'web-1');
    const [mode, privileged, dropped, security] = (await engine.docker('inspect', '--format', '{{.HostConfig.NetworkMode}};{{.HostConfig.Privileged}};{{.HostConfig.CapDrop}};{{.HostConfig.SecurityOpt}}', 'claw-default-web-1')).trim().split(';');
    assert.deepEqual([mode, privileged, security], ['none', 'false', '[no-new-privileges]']);
    assert.match(dropped ?? '', /NET_RAW/);
    assert.equal((await engine.docker('exec', 'claw-default-web-1', 'sh', '-c', 'echo $COLOUR')).trim(), 'green');
    assert.match(await engine.docker('exec', 'claw-default-web-1', 'ip', 'addr'), /inet 10\.200\.1\.2\/24 .*eth0/);
    const denied = await machine.run(['nsenter', '-t', await pidOf('claw-default-web-1'), '--net', '--', 'ip', '-6', 'addr', 'show', 'dev', 'eth0']);
    assert.equal(denied.stdout, '');
    await assert.rejects(engine.docker('exec', 'claw-default-web-1', 'ip', 'addr', 'add', '10.200.1.99/24', 'dev', 'eth0'), /not permitted/);
    assert.deepEqual(await machine.invoke('workload.logs', { name: 'web-1' }), { namespace: 'default', name: 'web-1', lines: ['serving'] });
  });

  test('a container that is killed is linked again when the Engine has restarted it', async () => {
    const pid = await pidOf('claw-default-web-1');
    await machine.output(['kill', '-9', pid]);
    await until(async () => assert.ok((await get('web-1')).restarts > 0 && (await get('web-1')).state === 'running'));
    assert.notEqual(await pidOf('claw-default-web-1'), pid);
    assert.equal(await until(byService), 'web-1');
    assert.equal(await namespaceOf(await pidOf('claw-default-web-1')), await insideName((await get('web-1')).id));
  });

  test('one that crashes again and again is never an endpoint for long, and stays within the Engine\'s patience', async () => {
    await machine.invoke('workload.run', { name: 'crash', image: IMAGE, command: ['sh', '-c', 'exit 3'], restart: 'always' });
    await sleep(3000);
    const { state, restarts } = await get('crash');
    assert.equal(state, 'restarting');
    assert.ok(restarts >= 2 && restarts < 10, `${restarts} restarts`);
    await machine.invoke('workload.stop', { name: 'crash' });
    assert.doesNotMatch(await engine.docker('ps', '-a', '--format', '{{.Names}}'), /crash/);
  });

  test('an agent that was killed takes the container over: same container, same address, nothing started twice', async () => {
    const pid = await pidOf('claw-default-web-1');
    await killAgent();
    assert.equal(await byService(), 'web-1');
    agent = await machine.up('--config', '/run/config.yaml', '--node', 'n1');
    assert.equal((await get('web-1')).state, 'running');
    assert.equal(await byService(), 'web-1');
    assert.equal(await pidOf('claw-default-web-1'), pid);
    assert.equal((await engine.docker('ps', '-aq')).trim().split('\n').length, 1);
  });

  test('an agent that is killed at any moment of a run leaves one container per record, and none without', async () => {
    for (const delayMs of [60, 120, 180, 240, 300, 400]) {
      const running = machine.clawnode('invoke', 'workload.run', JSON.stringify({ name: `k${delayMs}`, image: IMAGE, command: serve('k'), restart: 'always' }));
      await sleep(delayMs);
      await killAgent();
      await running;
      agent = await machine.up('--config', '/run/config.yaml', '--node', 'n1');
    }
    const listed = z.object({ workloads: z.array(workload.extend({ name: z.string() })) });
    const list = async () => listed.parse(await machine.invoke('workload.list', { limit: 100 })).workloads;
    await until(async () => assert.deepEqual((await list()).filter(({ state }) => state !== 'running'), []));
    const workloads = await list();
    const containers = (await engine.docker('ps', '-a', '--format', '{{.Names}}')).trim().split('\n');
    assert.deepEqual(containers.toSorted(), workloads.map(({ name }) => `claw-default-${name}`).toSorted());
    assert.equal(new Set(workloads.map(({ meshIp }) => meshIp)).size, workloads.length);
    for (const { name, meshIp } of workloads) assert.equal(await until(() => fetchText(`http://${meshIp}:8080/`)), name === 'web-1' ? 'web-1' : 'k');
    for (const { name } of workloads) if (name !== 'web-1') await machine.invoke('workload.stop', { name });
  });

  test('a container that was restarted while no agent lived is linked by the next one', async () => {
    await killAgent();
    await engine.docker('restart', '-t', '1', 'claw-default-web-1');
    agent = await machine.up('--config', '/run/config.yaml', '--node', 'n1');
    assert.equal(await until(byService), 'web-1');
  });

  test('a container that others removed is made anew, one that others stopped is started', async () => {
    await engine.docker('rm', '-f', 'claw-default-web-1');
    assert.equal(await until(byService), 'web-1');
    await engine.docker('stop', '-t', '1', 'claw-default-web-1');
    assert.equal(await until(byService), 'web-1');
  });

  test('under restart "no" an end stays an end, over a restart of the agent too', async () => {
    await machine.invoke('workload.run', { name: 'job', image: IMAGE, command: ['sh', '-c', 'echo done; exit 7'] });
    await until(async () => assert.equal((await get('job')).state, 'exited'));
    await killAgent();
    agent = await machine.up('--config', '/run/config.yaml', '--node', 'n1');
    const ended = z.object({ state: z.string(), exitCode: z.int() });
    await until(async () => assert.deepEqual(ended.parse(await machine.invoke('workload.get', { name: 'job' })), { state: 'exited', exitCode: 7 }));
    assert.match(JSON.stringify(await machine.invoke('workload.logs', { name: 'job' })), /"lines":\["done"\]/);
    await machine.invoke('workload.stop', { name: 'job' });
  });

  test('an image that does not exist is told before anything is written', async () => {
    const error = await refused('workload.run', { name: 'absent', image: 'no/such:image' });
    assert.deepEqual([error['code'], error['path']], ['INVALID_ARGUMENT', 'image']);
    assert.match(error['hint'] ?? '', /docker pull no\/such:image/);
    assert.equal((await refused('workload.get', { name: 'absent' }))['code'], 'WORKLOAD_NOT_FOUND');
    assert.doesNotMatch(await engine.docker('ps', '-a', '--format', '{{.Names}}'), /absent/);
  });

  test('a command that the image does not have fails with the Engine\'s words, and a stop removes all of it', async () => {
    const made = workload.parse(await machine.invoke('workload.run', { name: 'wrong', image: IMAGE, command: ['no-such-program'] }));
    assert.equal(made.state, 'failed');
    assert.match(made.message ?? '', /no-such-program/);
    await machine.invoke('workload.stop', { name: 'wrong' });
    assert.doesNotMatch(await engine.docker('ps', '-a', '--format', '{{.Names}}'), /wrong/);
  });

  for (const signal of ['TERM', 'KILL'] as const) {
    test(`an Engine that gets SIG${signal} is told, and the workload serves again once it is back`, async () => {
      await engine.stop(signal);
      const error = await refused('workload.run', { name: 'other', image: IMAGE });
      assert.deepEqual([error['code'], error['path']], ['DOCKER_UNREACHABLE', 'image']);
      assert.equal((await refused('workload.stop', { name: 'web-1' }))['code'], 'DOCKER_UNREACHABLE');
      if (signal === 'TERM') await until(async () => assert.equal(await healthy(), 0));
      // An agent that starts meanwhile says so, and goes on with everything else.
      await killAgent();
      agent = await machine.up('--config', '/run/config.yaml', '--node', 'n1');
      await until(async () => assert.match((await get('web-1')).message ?? '', /the Docker Engine does not answer on/));
      await engine.start();
      assert.equal(await until(byService), 'web-1');
      await until(async () => assert.equal(await namespaceOf(await pidOf('claw-default-web-1')), await insideName((await get('web-1')).id)));
    });
  }

  test('an Engine restarted with containers that live on changes nothing for them', async () => {
    await engine.stop();
    await engine.start('--live-restore');
    assert.equal(await until(byService), 'web-1');
    const pid = await pidOf('claw-default-web-1');
    await engine.stop();
    assert.equal(await byService(), 'web-1');
    await engine.start('--live-restore');
    assert.equal(await byService(), 'web-1');
    await until(async () => assert.equal((await get('web-1')).state, 'running'));
    assert.equal(await pidOf('claw-default-web-1'), pid);
    await engine.stop();
    await engine.start();
    await until(byService);
  });

  test('a container on docker0 reaches no workload and no virtual IP, and did with our jump below Docker\'s', async () => {
    await engine.docker('run', '-d', '--name', 'stranger', IMAGE, 'sleep', '1000000');
    const stranger = await pidOf('stranger');
    /** From its network; a client that fails for another reason must not look like a drop. */
    const reach = async (address: string): Promise<string> => {
      const { exitCode, stdout, stderr } = await machine.run(['nsenter', '-t', stranger, '--net', '--', process.execPath, '-e', CLIENT, `http://${address}/`, 'web']);
      return exitCode === 0 ? stdout.trim() : stderr;
    };
    await until(async () => assert.deepEqual(await firstRules(), { FORWARD: 'CLAW-NETPOL', 'DOCKER-USER': 'CLAW-NETPOL' }));
    const { meshIp } = await get('web-1');
    assert.equal(await reach(`${meshIp}:8080`), 'no answer');
    assert.equal(await reach('10.201.0.1'), 'no answer');
    // What Docker does when it starts, and nobody is there to repair it.
    await killAgent();
    await machine.output(['sh', '-ec', 'rule="-m comment --comment clawnode -j CLAW-NETPOL"; iptables -D DOCKER-USER $rule; iptables -D FORWARD $rule; iptables -A FORWARD $rule']);
    assert.equal(await reach(`${meshIp}:8080`), 'web-1');
    agent = await machine.up('--config', '/run/config.yaml', '--node', 'n1');
    assert.equal(await reach(`${meshIp}:8080`), 'no answer');
  });

  test('after a restart of the Engine our jumps are first again within five seconds', async () => {
    await engine.stop();
    await engine.start();
    const beganMs = performance.now();
    await until(async () => assert.deepEqual(await firstRules(), { FORWARD: 'CLAW-NETPOL', 'DOCKER-USER': 'CLAW-NETPOL' }));
    assert.ok(performance.now() - beganMs < 5000);
    await machine.output(['sh', '-ec', 'iptables -I FORWARD -i docker0 -j ACCEPT; iptables -I DOCKER-USER -i docker0 -j ACCEPT']);
    const changedMs = performance.now();
    await until(async () => assert.deepEqual(await firstRules(), { FORWARD: 'CLAW-NETPOL', 'DOCKER-USER': 'CLAW-NETPOL' }));
    assert.ok(performance.now() - changedMs < 5000);
    await machine.output(['sh', '-ec', 'iptables -D FORWARD -i docker0 -j ACCEPT; iptables -D DOCKER-USER -i docker0 -j ACCEPT']);
    assert.equal(await until(byService), 'web-1');
  });

  test('a running container is attached beside its own network, follows its restarts, and keeps running when it is detached', async () => {
    await engine.docker('run', '-d', '--name', 'legacy', '--restart', 'always', IMAGE, ...serve('legacy'));
    const routes = await engine.docker('exec', 'legacy', 'ip', 'route');
    await machine.invoke('workload.stop', { name: 'web-1' });
    const made = workload.parse(await machine.invoke('workload.attach', { name: 'old', labels: { app: 'web' }, container: 'legacy' }));
    assert.deepEqual([made.state, made.runtime], ['running', 'attached']);
    assert.equal(await until(byService), 'legacy');
    assert.match(await engine.docker('exec', 'legacy', 'ip', 'route'), /^default via 172\.17\.0\.1 dev eth0/m);
    assert.match(await engine.docker('exec', 'legacy', 'ip', 'addr', 'show', 'claw-mesh'), new RegExp(made.meshIp));
    assert.deepEqual([(await refused('workload.attach', { name: 'again', container: 'legacy' }))['code'], (await refused('workload.stop', { name: 'old' }))['code']], ['CONFLICT', 'INVALID_ARGUMENT']);

    await engine.docker('restart', '-t', '1', 'legacy');
    assert.equal(await until(byService), 'legacy');
    assert.equal((await get('old')).state, 'running');
    await killAgent();
    assert.equal(await byService(), 'legacy');
    agent = await machine.up('--config', '/run/config.yaml', '--node', 'n1');
    assert.equal(await byService(), 'legacy');
    await engine.docker('stop', '-t', '1', 'legacy');
    await until(async () => assert.equal((await get('old')).state, 'exited'));
    assert.equal(await healthy(), 0);
    await engine.docker('start', 'legacy');
    assert.equal(await until(byService), 'legacy');

    const pid = await pidOf('legacy');
    assert.deepEqual(await machine.invoke('workload.detach', { name: 'old' }), { namespace: 'default', name: 'old', stopped: true, released: made.meshIp, enforced: true });
    assert.equal(await pidOf('legacy'), pid);
    assert.equal(await engine.docker('exec', 'legacy', 'ip', 'route'), routes);
    await assert.rejects(engine.docker('exec', 'legacy', 'ip', 'addr', 'show', 'claw-mesh'));
  });

  test('containers that use the machine\'s network, do not run or do not exist are refused', async () => {
    await engine.docker('run', '-d', '--name', 'hostly', '--network', 'host', IMAGE, 'sleep', '1000000');
    await engine.docker('create', '--name', 'idle', IMAGE, 'sleep', '1');
    for (const [container, code, words] of [
      ['hostly', 'NOT_ALLOWED', /the machine's own network/],
      ['idle', 'INVALID_ARGUMENT', /does not run/],
      ['nobody', 'INVALID_ARGUMENT', /there is no container nobody/],
    ] as const) {
      const error = await refused('workload.attach', { name: 'x', container });
      assert.deepEqual([error['code'], error['path']], [code, 'container'], container);
      assert.match(error['message'] ?? '', words);
    }
    assert.equal((await refused('workload.get', { name: 'x' }))['code'], 'WORKLOAD_NOT_FOUND');
    await engine.docker('rm', '-f', 'hostly', 'idle');
  });

  test('cleanup removes our containers and our interfaces, and nothing of others', async () => {
    await machine.invoke('workload.run', { name: 'web-2', labels: { app: 'web' }, image: IMAGE, command: serve('web-2'), restart: 'always' });
    await machine.invoke('workload.attach', { name: 'old', container: 'legacy' });
    await machine.output(['ip', 'netns', 'add', 'lab']);
    await machine.invoke('workload.attach', { name: 'lab', netns: '/run/netns/lab' });
    assert.equal((await agent.stop()).exitCode, 0);
    const pid = await pidOf('legacy');
    const { exitCode, stdout, stderr } = await machine.clawnode('cleanup');
    assert.deepEqual({ exitCode, stderr }, { exitCode: 0, stderr: '' });
    assert.match(stdout, /^clean: 1 workloads? stopped; 3 interfaces/);
    assert.deepEqual((await engine.docker('ps', '-a', '--format', '{{.Names}}')).trim().split('\n').toSorted(), ['legacy', 'stranger']);
    assert.equal(await pidOf('legacy'), pid);
    await assert.rejects(engine.docker('exec', 'legacy', 'ip', 'addr', 'show', 'claw-mesh'));
    assert.match(await machine.output(['ip', 'netns']), /^lab\b/);
    assert.doesNotMatch(await machine.output(['ip', '-n', 'lab', 'link']), /claw-mesh/);
    assert.equal((await machine.output(['iptables-save'])).includes('CLAW'), false);
  });

  async function killAgent(): Promise<void> {
    await agent.kill();
  }

  /** The network namespace that the workload's name stands for. */
  async function insideName(id: string): Promise<string> {
    return (await machine.output(['ip', 'netns', 'exec', `claw-${id}`, 'readlink', '/proc/self/ns/net'])).trim();
  }

  async function firstRules(): Promise<Record<string, string>> {
    const saved = await machine.output(['iptables-save', '-t', 'filter']);
    return Object.fromEntries(['FORWARD', 'DOCKER-USER'].map((chain) => [chain, new RegExp(`^-A ${chain} .*-[jg] (\\S+)$`, 'm').exec(saved)?.[1] ?? 'nothing']));
  }
}

/** Waits until `check` no longer throws. */
async function until<Result>(check: () => Promise<Result>): Promise<Result> {
  for (const deadline = performance.now() + 20_000; ; await sleep(100)) {
    try {
      return await check();
    } catch (error) {
      if (performance.now() > deadline) throw error;
    }
  }
}
