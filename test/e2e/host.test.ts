/** Host mode on a machine of its own: start, a second agent, stop, take-over, cleanup, uids, refusals, and what each of them says. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openMachine, type Machine, type RunningAgent } from './fixture-machine.ts';

const WORKLOAD_UID = 64_001;
const PROXY_UID = 64_180;
const ULOGD_UID = 64_181;
const CONFIG = `workloads: {process: {enabled: true, uid: ${WORKLOAD_UID}}}`;
const STATE = '/var/lib/clawnode';

/** Says who it is in its answer, and tries to read what is the agent's. */
const SERVER = `
const fs = require('fs');
const seen = (path) => { try { return fs.readdirSync(path).join() } catch (error) { return error.code } };
const tell = { uid: process.getuid(), secret: process.env.SECRET, state: seen('${STATE}'), run: seen('/run/clawnode') };
require('http').createServer((request, response) => response.end(JSON.stringify(tell))).listen(8080);
`;

/** Proxy and workloads have uids of their own, and an ordinary user can map only one. */
const hostModeSuite = (name: string, body: () => void): void => {
  if (process.getuid?.() === 0) void suite(name, body);
  else process.stderr.write(`!! not run, an agent in host mode needs root: ${name}\n`);
};

for (const backend of ['nft', 'legacy'] as const) {
  hostModeSuite(`a running agent where rules are in iptables-${backend}`, () => {
    let machine: Machine;
    let agent: RunningAgent;
    let foreign: string;
    before(async () => {
      machine = await openMachine();
      await writeFile(machine, '/run/config.yaml', CONFIG);
      await machine.output(['sh', '-ec', foreignOf(backend)]);
      foreign = await machine.output(['sh', '-c', everythingOf(backend)]);
      agent = await machine.up('--config', '/run/config.yaml', '--node', 'n1');
      await machine.invoke('workload.run', { name: 'a', labels: { app: 'web' }, command: [process.execPath, '-e', SERVER], env: { SECRET: 'hunter2' } });
      await machine.invoke('service.create', { name: 'web', selector: { app: 'web' }, port: 80, targetPort: 8080 });
      await machine.invoke('ingress.create', { name: 'front', rules: [{ host: 'www.example.com', service: 'web' }] });
      await answer(machine, { port: 80 });
    });
    after(() => machine.close());

    test('says in one line that it is ready, as whom and where', () => {
      assert.match(agent.words, /^clawnode \d+\.\d+\.\d+: node n1 is ready in host mode on \/run\/clawnode\/agent\.sock, pid \d+$/);
    });

    test('a workload has the configured uid and sees neither state nor socket', async () => {
      assert.deepEqual(await answer(machine, { port: 80 }), { uid: WORKLOAD_UID, secret: 'hunter2', state: '', run: '' });
      assert.deepEqual(await answer(machine, { port: 8443 }), { uid: WORKLOAD_UID, secret: 'hunter2', state: '', run: '' });
    });

    test('the proxy has its own uid, no capability and no way to one, and sees neither state nor socket', async () => {
      const [pid = ''] = await proxyPids(machine);
      const status = await machine.output(['cat', `/proc/${pid}/status`]);
      const field = (name: string): string => new RegExp(`^${name}:\\t(.*)$`, 'm').exec(status)?.[1] ?? '';
      assert.equal(field('Uid'), `${PROXY_UID}\t${PROXY_UID}\t${PROXY_UID}\t${PROXY_UID}`);
      // No group of the machine has the number of its uid, but one might: it gets nogroup.
      assert.equal(field('Gid'), '65534\t65534\t65534\t65534');
      assert.equal(field('Groups').trim(), '');
      for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) assert.equal(field(set), '0000000000000000', set);
      assert.equal(field('NoNewPrivs'), '1');
      const asProxy = ['setpriv', '--reuid', String(PROXY_UID), '--regid', String(PROXY_UID), '--clear-groups'] as const;
      const seen = await machine.output(['nsenter', '-t', pid, '--mount', '--', ...asProxy, 'sh', '-c', `ls -A /run/clawnode /run/clawnode/proxy ${STATE} ${STATE}/proxy ${STATE}/proxy/routes; cat ${STATE}/proxy/routes/routes.json`]);
      const listed = ['/run/clawnode:\nproxy', '/run/clawnode/proxy:\n1.sock\n2.sock', `${STATE}:\nproxy`, `${STATE}/proxy:\nroutes`, `${STATE}/proxy/routes:\nroutes.json`];
      assert.equal(seen.slice(0, seen.indexOf('{')), `${listed.join('\n\n')}\n`);
      assert.match(seen, /"routes":\[/);
      // It owns the file of its routes, but reaches it through a mount that is read-only.
      const change = await machine.run(['nsenter', '-t', pid, '--mount', '--', ...asProxy, 'sh', '-c', `: >${STATE}/proxy/routes/routes.json`]);
      assert.match(change.stderr, /Read-only file system/);
      // The same uid outside of its view is stopped by the modes.
      const outside = await machine.run([...asProxy, 'sh', '-c', `cat ${STATE}/store.db; cat ${STATE}/audit.log`]);
      assert.match(outside.stderr, /store\.db: Permission denied\n.*audit\.log: Permission denied/);
      const call = `require('http').get({ socketPath: '/run/clawnode/agent.sock', path: '/v1/health' }).on('error', (error) => console.log(error.code)).on('response', () => console.log('answered'))`;
      assert.equal(await machine.output([...asProxy, process.execPath, '-e', call]), 'EACCES\n');
    });

    for (const [what, args, holds] of [
      ['one state directory', ['--socket', '/run/other.sock'], /another agent \(pid \d+\) holds the state directory \/var\/lib\/clawnode/],
      ['one socket', ['--state-dir', '/run/other'], /another agent \(pid \d+\) holds this machine's kernel/],
      ['one kernel', ['--state-dir', '/run/other', '--socket', '/run/other.sock'], /another agent \(pid \d+\) holds this machine's kernel/],
    ] as const) {
      test(`a second agent with ${what} says so and leaves the first alone`, async () => {
        const kernel = await machine.output(['sh', '-c', everythingOf(backend)]);
        const { exitCode, stdout, stderr } = await machine.clawnode('up', ...args);
        assert.deepEqual({ exitCode, stdout }, { exitCode: 1, stdout: '' });
        assert.match(stderr, holds);
        assert.match(stderr, /\(AGENT_ALREADY_RUNNING\)\n {2}Stop it first/);
        assert.equal(await machine.output(['sh', '-c', everythingOf(backend)]), kernel);
        assert.deepEqual(await answer(machine, { port: 80 }), { uid: WORKLOAD_UID, secret: 'hunter2', state: '', run: '' });
      });
    }

    test('cleanup refuses, whichever paths it is given', async () => {
      for (const args of [[], ['--state-dir', '/run/other', '--socket', '/run/other.sock']]) {
        const { exitCode, stderr } = await machine.clawnode('cleanup', ...args);
        assert.equal(exitCode, 1);
        assert.match(stderr, /AGENT_ALREADY_RUNNING\)\n {2}Stop it first/);
      }
      await answer(machine, { port: 80 });
    });

    test('the audit log has a line for every call and every refusal, who called, and no secret', async () => {
      await assert.rejects(machine.invoke('service.create', { name: 'web', port: 80 }), /SERVICE_EXISTS/);
      await assert.rejects(machine.invoke('service.explode'), /UNKNOWN_COMMAND/);
      await machine.invoke('service.list');
      let log = '';
      // Who called is looked up after the answer.
      for (const deadline = performance.now() + 5_000; !log.includes('"service.list"') && performance.now() < deadline; await sleep(50)) {
        log = await machine.output(['cat', `${STATE}/audit.log`]);
      }
      const lines = log.trim().split('\n').map((line) => JSON.parse(line));
      assert.deepEqual(lines.map(({ command, result }) => `${command} ${result}`), [
        'workload.run ok',
        'service.create ok',
        'ingress.create ok',
        'service.create SERVICE_EXISTS',
        'service.explode UNKNOWN_COMMAND',
        'service.list ok',
      ]);
      assert.doesNotMatch(log, /hunter2/);
      assert.deepEqual(lines[0].params.env, { SECRET: '...' });
      for (const { time, peer, surface } of lines) {
        assert.ok(Date.now() - Date.parse(time) < 600_000);
        assert.deepEqual({ surface, kind: typeof peer }, { surface: 'cli', kind: 'string' });
      }
      // A caller that is gone before it could be looked up stays unknown; this one waited for its workload.
      assert.match(lines[0].peer, /^uid 0 clawnode\.js\[\d+\]$/);
      assert.equal((await machine.output(['stat', '-c', '%a %u', `${STATE}/audit.log`])).trim(), '600 0');
    });

    test('ulogd has its own uid and the one right to listen to the kernel, and proves that it is heard', async () => {
      const [pid = ''] = (await machine.output(['pgrep', '-x', 'ulogd'])).split('\n');
      const status = await machine.output(['cat', `/proc/${pid}/status`]);
      const field = (name: string): string => new RegExp(`^${name}:\\t(.*)$`, 'm').exec(status)?.[1] ?? '';
      assert.equal(field('Uid'), `${ULOGD_UID}\t${ULOGD_UID}\t${ULOGD_UID}\t${ULOGD_UID}`);
      assert.equal(field('Gid'), '65534\t65534\t65534\t65534');
      assert.equal(field('Groups').trim(), '');
      // Bit 12 is CAP_NET_ADMIN.
      for (const set of ['CapPrm', 'CapEff', 'CapBnd']) assert.equal(field(set), '0000000000001000', set);
      assert.equal(field('NoNewPrivs'), '1');
      let told = '';
      for (const deadline = performance.now() + 15_000; !told.includes('"auditWorks":true') && performance.now() < deadline; await sleep(100)) {
        told = JSON.stringify(await machine.invoke('network.flows'));
      }
      assert.match(told, /"auditWorks":true/);
    });

    test('keeps its rules where those of the machine are, and nowhere else', async () => {
      assert.match(JSON.stringify(await machine.invoke('network.status')), new RegExp(`"backend":"${backend}"`));
      assert.match(await machine.output([`iptables-${backend}-save`]), /^-A CLAW-SERVICES/m);
      assert.doesNotMatch(await machine.output([`iptables-${backend === 'nft' ? 'legacy' : 'nft'}-save`]), /CLAW-/);
      // A legacy table that is set up takes part in every packet.
      if (backend === 'nft') assert.equal(await machine.output(['cat', '/proc/net/ip_tables_names']), '');
      const { stdout } = await machine.clawnode('doctor', '--all');
      assert.match(stdout, new RegExp(`^ +ok +iptables backend: ${backend}: it holds chains of ours$`, 'm'));
    });

    test('SIGTERM stops it within two seconds with exit code 0, and services, workloads and ingress stay up', async () => {
      const { exitCode, tookMs } = await agent.stop();
      assert.equal(exitCode, 0);
      assert.ok(tookMs < 2000, `${tookMs} ms`);
      for (const port of [80, 8443] as const) await answer(machine, { port });
      const { exitCode: refused, stderr } = await machine.clawnode('invoke', 'service.list');
      assert.equal(refused, 1);
      assert.match(stderr, /"code":"AGENT_UNREACHABLE".*"hint":"Start one with `sudo clawnode up`/);
    });

    test('the next one takes over what lives: same addresses, same processes', async () => {
      const rules = await machine.output(['sh', '-c', everythingOf(backend)]);
      const proxy = await proxyPids(machine);
      agent = await machine.up('--config', '/run/config.yaml', '--node', 'n1');
      assert.match(JSON.stringify(await machine.invoke('service.get', { name: 'web' })), /"clusterIp":"10\.201\.0\.1".*"ip":"10\.200\.1\.2","port":8080.*"healthy":true/);
      assert.match(JSON.stringify(await machine.invoke('workload.get', { name: 'a' })), /"state":"running","restarts":0/);
      assert.deepEqual(await proxyPids(machine), proxy);
      assert.equal(await machine.output(['sh', '-c', everythingOf(backend)]), rules);
      for (const port of [80, 8443] as const) await answer(machine, { port });
      assert.equal((await agent.stop()).exitCode, 0);
    });

    test('another backend can be configured only after a cleanup', async () => {
      const other = backend === 'nft' ? 'legacy' : 'nft';
      await writeFile(machine, '/run/other.yaml', `${CONFIG}\niptablesBackend: ${other}`);
      const { exitCode, stderr } = await machine.clawnode('up', '--config', '/run/other.yaml', '--node', 'n1');
      assert.equal(exitCode, 1);
      assert.match(stderr, new RegExp(`can not change to ${other} while iptables-${backend} holds chains of ours \\(CONFIG_INVALID at iptablesBackend\\)\\n {2}Run \`clawnode cleanup\` first`));
    });

    test('cleanup then removes everything of ours, says how much, and leaves what is foreign byte for byte', async () => {
      const { exitCode, stdout, stderr } = await machine.clawnode('cleanup');
      assert.deepEqual({ exitCode, stderr }, { exitCode: 0, stderr: '' });
      assert.match(stdout, /^clean: 1 workloads? stopped; 1 interfaces?, 1 network namespaces?, \d+ lines of iptables, 1 sets?, \d+ addresses and routes removed; forwarding is off again\n$/);
      assert.equal(await machine.output(['sh', '-c', everythingOf(backend)]), foreign);
      // What is left is PID 1 with its pause, and the commands that look.
      const processes = await machine.output(['sh', '-c', 'cat /proc/[0-9]*/cmdline | tr "\\0" " "']);
      assert.doesNotMatch(processes, /supervise\.sh|hold\.sh|proxy\/main/);
      assert.equal((await machine.clawnode('cleanup')).exitCode, 0);
    });
  });
}

hostModeSuite('an agent without a configuration', () => {
  test('refuses workload.run and says which setting allows it', async () => {
    const machine = await openMachine();
    try {
      const agent = await machine.up('--node', 'n1');
      const { exitCode, stdout, stderr } = await machine.clawnode('invoke', 'workload.run', '{"name":"a","command":["true"]}');
      assert.deepEqual({ exitCode, stdout }, { exitCode: 1, stdout: '' });
      const { code, hint } = JSON.parse(stderr);
      assert.equal(code, 'NOT_ALLOWED');
      assert.match(hint, /workloads\.process/);
      assert.match(JSON.stringify(await machine.invoke('workload.list')), /"count":0/);
      assert.match(await machine.output(['cat', `${STATE}/audit.log`]), /"command":"workload\.run".*"result":"NOT_ALLOWED"/);
      await agent.stop();
    } finally {
      await machine.close();
    }
  });
});

suite('what stops a start', () => {
  let machine: Machine;
  before(async () => {
    machine = await openMachine();
  });
  after(() => machine.close());

  for (const [what, config, words] of [
    ['a value out of range', 'ingress: {port: 99999}', /ingress\.port.*65535.*\(CONFIG_INVALID at ingress\.port\)/],
    ['an unknown field', 'ingres: {port: 99}', /ingres: there is no such field \(CONFIG_INVALID at ingres\)/],
    ['an unknown field inside another', 'workloads: {process: {user: 1}}', /\(CONFIG_INVALID at workloads\.process\.user\)/],
    ['processes without a uid', 'workloads: {process: {enabled: true}}', /\(CONFIG_INVALID at workloads\.process\.uid\)\n {2}\S/],
    ['something that is not YAML', 'ranges: [', /\/run\/config\.yaml is not YAML: .* at line 2, column 1 \(CONFIG_INVALID\)\n {2}\S/],
    ['ranges that overlap each other', 'ranges: {mesh: 10.200.0.0/16}', /range (workload|mesh) 10\.200\.0\.0\/16 overlaps our own range (mesh|workload).*\(RANGE_OVERLAP at ranges\.(workload|mesh)\)/],
  ] as const) {
    test(`a configuration with ${what}, and the message says where`, async () => {
      await writeFile(machine, '/run/config.yaml', config);
      await refused(['--config', '/run/config.yaml'], words);
    });
  }

  test('a configuration that does not exist', async () => {
    await refused(['--config', '/run/absent.yaml'], /\/run\/absent\.yaml can not be read: .*\(CONFIG_INVALID\)\n {2}\S/);
  });

  test('an address or a route of this machine in one of our ranges, and the message names it', async () => {
    await machine.output(['sh', '-ec', 'ip link add vpn0 type veth peer name vpn1; ip link set vpn0 up; ip link set vpn1 up']);
    await machine.output(['ip', 'route', 'add', '10.201.7.0/24', 'dev', 'vpn0']);
    await refused([], /range clusterIp 10\.201\.0\.0\/16 overlaps route 10\.201\.7\.0\/24 of vpn0 \(RANGE_OVERLAP at ranges\.clusterIp\)\n {2}.*--config/);
    await machine.output(['sh', '-ec', 'ip route del 10.201.7.0/24 dev vpn0; ip address add 10.200.9.1/24 dev vpn1']);
    await refused([], /range workload 10\.200\.0\.0\/16 overlaps address 10\.200\.9\.0\/24 of vpn1/);
  });

  async function refused(args: readonly string[], words: RegExp): Promise<void> {
    const { exitCode, stdout, stderr } = await machine.clawnode('up', ...args);
    assert.deepEqual({ exitCode, stdout }, { exitCode: 1, stdout: '' });
    assert.match(stderr, words);
    assert.equal((await machine.output(['iptables-save'])).includes('CLAW'), false);
  }
});

/** What stands on the machine before we come: rules in front of and beside ours, a set, a route, an interface, a namespace. */
const foreignOf = (backend: string): string => `
iptables-${backend} -t nat -A PREROUTING -d 192.0.2.1/32 -p tcp -j DNAT --to-destination 192.0.2.2
iptables-${backend} -A FORWARD -s 192.0.2.3/32 -m comment --comment "not clawnode" -j DROP
iptables-${backend} -N CLAWS
iptables-${backend} -A CLAWS -j RETURN
iptables-${backend} -A INPUT -s 192.0.2.4/32 -j CLAWS
ipset create claws hash:ip
ipset add claws 192.0.2.5
ip netns add foreign
ip link add foreign0 type veth peer name foreign1
ip address add 192.0.2.129/25 dev foreign0
ip link set foreign0 up
ip link set foreign1 up
ip route add 198.51.100.0/24 via 192.0.2.130`;

/** Everything that we could have changed, without counters and times. A listing makes the tables that it shows, so all are listed. */
const everythingOf = (backend: string): string => `
for table in raw filter nat; do iptables-${backend}-save -t $table | grep -v '^#' | sed 's/ \\[.*\\]$//'; done
ipset save | sed 's/ initval [^ ]*//'; ip -o link | sed 's/ qdisc.*//'; ip -o -4 address | sed 's/ *valid_lft.*//'; ip -4 route show table all; ip rule; ip netns`;

async function writeFile(machine: Machine, path: string, content: string): Promise<void> {
  await machine.output(['sh', '-c', 'printf "%s\\n" "$1" >"$2"', 'sh', content, path]);
}

/** What the workload says, by its virtual IP (80) or by the ingress (8443). Waits a while for the first answer. */
async function answer(machine: Machine, { port }: { port: 80 | 8443 }): Promise<unknown> {
  return JSON.parse(await machine.output([process.execPath, '-e', CLIENT, port === 80 ? '10.201.0.1' : '127.0.0.1', String(port)]));
}

const CLIENT = `
const [, host, port] = process.argv;
const again = (left, reason) => { if (left === 0) throw reason; setTimeout(ask, 50, left - 1); };
const ask = (left) => require('http').get({ host, port, agent: false, headers: { host: 'www.example.com' } }, (response) => {
  let body = '';
  response.on('data', (chunk) => (body += chunk));
  response.on('end', () => (response.statusCode === 200 ? console.log(body) : again(left, new Error(body))));
}).on('error', (error) => again(left, error));
ask(100);
`;

/** Those of its two workers. */
async function proxyPids(machine: Machine): Promise<string[]> {
  const find = 'for directory in /proc/[0-9]*; do tr "\\0" " " <$directory/cmdline | grep -q "^[^ ]*node [^ ]*src/proxy/main.ts" && echo ${directory#/proc/}; done; true';
  const pids = (await machine.output(['sh', '-c', find])).trim().split('\n');
  assert.equal(pids.length, 2, pids.join());
  return pids;
}
