/** An agent with no more rights than its service gives it, who may talk to it, what is put on record, and what no policy can cut off. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { CAPABILITIES } from '../../src/surfaces/cli/service/unit.ts';
import { clawnode } from '../cli/cli-process.ts';
import { checkout } from '../cli/sandbox-fixture.ts';
import { openMachine, type Machine, type RunningAgent } from './fixture-machine.ts';

const [GROUP, MEMBER, STRANGER, WORKLOAD] = [64_600, 64_500, 64_501, 64_001];
const CONFIG = `
ingress: {port: 443}
workloads: {process: {enabled: true, uid: ${WORKLOAD}}}
`;
const AUDIT = '/var/lib/clawnode/audit.log';
const SERVER = "require('http').createServer((request, response) => response.end('hello')).listen(8080)";

/** As systemd does it: with this bounding set, and no way to gain anything else. */
const asService = ['setpriv', `--bounding-set=-all${CAPABILITIES.map((name) => `,+${name.slice(4).toLowerCase()}`).join('')}`, '--inh-caps=-all', '--no-new-privs', '--'];
const asUser = (uid: number, groups: string): readonly [string, ...string[]] => ['setpriv', '--reuid', String(uid), '--regid', String(uid), ...(groups === '' ? ['--clear-groups'] : ['--groups', groups]), '--inh-caps=-all', '--'];
const asMember = asUser(MEMBER, String(GROUP));
const asStranger = asUser(STRANGER, '');

/** Where every user reaches them, wherever the checkout lies. */
const PROGRAM = ['/run/node', '/run/checkout/bin/clawnode.js'] as const;

const rootSuite = (name: string, body: () => void): void => {
  if (process.getuid?.() === 0) void suite(name, body);
  else process.stderr.write(`!! not run, an agent in host mode needs root: ${name}\n`);
};

rootSuite('an agent with the rights of its service', () => {
  let machine: Machine;
  let agent: RunningAgent;
  before(async () => {
    machine = await openMachine();
    await machine.output(['sh', '-ec', PREPARE, 'sh', CONFIG, checkout, process.execPath]);
    agent = await machine.upThrough(asService, '--config', '/run/config.yaml', '--node', 'n1');
  });
  after(() => machine.close());

  const run = (name: string): Promise<unknown> => machine.invoke('workload.run', { name, labels: { app: 'web' }, command: [process.execPath, '-e', SERVER] });
  const curl = (...args: string[]): Promise<string> => machine.output(['curl', '--silent', '--show-error', '--max-time', '5', '--retry', '20', '--retry-all-errors', '--retry-delay', '1', ...args]);
  const auditLog = async (holds: RegExp): Promise<string> => {
    for (const deadline = performance.now() + 10_000; ; await sleep(50)) {
      const log = await machine.output(['cat', AUDIT]);
      if (holds.test(log)) return log;
      if (performance.now() > deadline) throw new Error(`the audit log does not hold ${String(holds)}: ${log.slice(-2000)}`);
    }
  };

  test('has these capabilities and no other', async () => {
    const status = await machine.output(['sh', '-c', 'cat /proc/$(pgrep -f "clawnode.js up --config" | head -1)/status']);
    const names = (await machine.output(['capsh', `--decode=${/^CapBnd:\t(\w+)$/m.exec(status)?.[1] ?? ''}`]).catch(() => '')).trim();
    if (names === '') process.stderr.write('!! capsh is not there: the names of the capabilities were not compared\n');
    else assert.deepEqual((names.split('=')[1] ?? '').split(',').toSorted(), CAPABILITIES.map((name) => name.toLowerCase()).toSorted());
    assert.match(status, /^NoNewPrivs:\t1$/m);
  });

  test('runs workloads, services, a privileged ingress port, health checks and affinity', async () => {
    await run('a');
    await run('b');
    await machine.invoke('service.create', { name: 'web', selector: { app: 'web' }, port: 80, targetPort: 8080, sessionAffinity: { type: 'clientIP', timeoutSeconds: 60 }, healthCheck: { type: 'http', path: '/' } });
    await machine.invoke('ingress.create', { name: 'front', rules: [{ host: 'www.example.com', service: 'web' }] });
    assert.equal(await curl('http://10.201.0.1/'), 'hello');
    assert.equal(await curl('--fail', '-H', 'Host: www.example.com', 'http://127.0.0.1:443/'), 'hello');
  });

  test('takes every right from workload and ingress, as it does with all of them', async () => {
    // libcap-ng leaves the bounding set as it is where the right to change it is missing, and says nothing.
    const found = await machine.output(['sh', '-c', 'cat /proc/[0-9]*/status']);
    const processes = found.split(/^Name:/m).slice(1);
    const confined = processes.filter((status) => new RegExp(`^Uid:\\t(${WORKLOAD}|64180)\\t`, 'm').test(status));
    assert.ok(confined.length >= 4, `${confined.length} processes of workloads and ingress`);
    for (const status of confined) {
      assert.match(status, /^CapBnd:\t0{16}$/m);
      assert.match(status, /^CapEff:\t0{16}$/m);
    }
  });

  test('enforces and tells policies, probes, and attaches', async () => {
    await machine.invoke('network.policy.create', { name: 'shut', selector: {}, ingress: [], egress: [] });
    assert.match(JSON.stringify(await machine.invoke('network.probe', { from: 'a', to: 'b', port: 8080 })), /"reachable":false.*"agreesWithModel":true/);
    let told = '';
    for (const deadline = performance.now() + 20_000; !/"count":[1-9]/.test(told) && performance.now() < deadline; await sleep(100)) {
      told = JSON.stringify(await machine.invoke('network.flows'));
      if (!/"count":[1-9]/.test(told)) await machine.invoke('network.probe', { from: 'a', to: 'b', port: 8080 });
    }
    assert.match(told, /"verdict":"deny".*"policy":"default\/shut"/);
    await machine.invoke('network.policy.delete', { name: 'shut' });
    assert.match(JSON.stringify(await machine.invoke('network.probe', { from: 'a', to: 'b', port: 8080 })), /"reachable":true/);
    await machine.invoke('workload.attach', { name: 'guest', netns: '/run/netns/guest' });
    await machine.invoke('workload.detach', { name: 'guest' });
  });

  test('repairs drift, and takes over after it was killed', async () => {
    await machine.output(['iptables', '-t', 'nat', '-F', 'CLAW-SERVICES']);
    assert.equal(await curl('http://10.201.0.1/'), 'hello');
    await agent.kill();
    assert.equal(await curl('--fail', '-H', 'Host: www.example.com', 'http://127.0.0.1:443/'), 'hello');
    agent = await machine.upThrough(asService, '--config', '/run/config.yaml', '--node', 'n1');
    assert.match(JSON.stringify(await machine.invoke('workload.get', { name: 'a' })), /"state":"running","restarts":0/);
    await machine.invoke('workload.stop', { name: 'b' });
    assert.match(JSON.stringify(await machine.invoke('network.status')), /"inSync":true/);
  });

  test('status --ready tells without a word that it answers', async () => {
    assert.deepEqual(await machine.clawnode('status', '--ready', '5'), { exitCode: 0, signal: null, stdout: '', stderr: '' });
  });

  test('an MCP server of a member of the group, who has no right at all, reaches it, and the log names that user', async () => {
    const calls = [
      { id: 1, method: 'initialize', params: { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'test', version: '1' } } },
      { method: 'notifications/initialized' },
      // The second waits for its workload, so that whoever calls is still there to be looked at.
      { id: 2, method: 'tools/call', params: { name: 'workload_run', arguments: { name: 'c', command: [process.execPath, '-e', SERVER] } } },
    ].map((call) => JSON.stringify({ jsonrpc: '2.0', ...call }));
    const talk = `(printf '%s\\n' "$@"; sleep 5) | ${PROGRAM.join(' ')} mcp --mode host & sleep 2; grep -hE '^Cap(Eff|Prm|Amb)' /proc/$(pgrep -f "^/run/node .*clawnode.js mcp" | head -1)/status; wait`;
    const { stdout, stderr } = await machine.run([...asMember, 'sh', '-c', talk, 'sh', ...calls]);
    assert.match(stdout, /"state":"running".*"id":2/, stderr);
    assert.equal(stdout.match(/^Cap(Eff|Prm|Amb):\t0{16}$/gm)?.length, 3, stdout);
    const log = await auditLog(/"surface":"mcp"/);
    assert.match(log, new RegExp(`"peer":"uid ${MEMBER} clawnode\\.js\\[\\d+\\]","surface":"mcp","command":"workload\\.run"`));
  });

  test('whoever is not in the group is refused and told what to do, by the command line, by MCP and by doctor', async () => {
    const invoked = await machine.run([...asStranger, ...PROGRAM, 'invoke', 'service.list']);
    assert.equal(invoked.exitCode, 1);
    const { code, message, hint } = JSON.parse(invoked.stderr);
    assert.deepEqual({ code, message }, { code: 'PERMISSION_DENIED', message: '/run/clawnode/agent.sock may not be used by this user' });
    assert.match(hint, /member of the socket's group/);
    const mcp = await machine.run([...asStranger, ...PROGRAM, 'mcp', '--mode', 'host']);
    assert.equal(mcp.exitCode, 1);
    assert.match(mcp.stderr, /PERMISSION_DENIED/);
    const doctor = async (user: readonly [string, ...string[]]): Promise<string> => (await machine.run([...user, 'env', 'HOME=/run', ...PROGRAM, 'doctor', '--all'])).stdout;
    assert.match(await doctor(asStranger), /note +agent: one may run, but this user may not use \/run\/clawnode\/agent\.sock/);
    assert.match(await doctor(asStranger), /note +group clawnode: .* is no member.*\n +→ sudo usermod --append --groups clawnode /);
    assert.match(await doctor(asMember), /ok +agent: \d+\.\d+\.\d+, node n1, host mode, pid \d+/);
    assert.match(await doctor(asMember), /ok +group clawnode: .* is a member/);
    assert.match((await machine.clawnode('doctor', '--all', '--config', '/run/config.yaml')).stdout, /ok +port 443: in use by clawnode itself, for the ingress\n.*ok +port 10201: in use by clawnode itself, for metrics/s);
  });

  test('an MCP server that root starts says that it need not be root', async () => {
    const { stderr } = await machine.run(['sh', '-c', `${process.execPath} ${checkout}/bin/clawnode.js mcp --mode host </dev/null`]);
    assert.match(stderr, /this runs as root, which it does not need: members of the agent's group may do the same/);
  });

  test('what is no call at all is on record too', async () => {
    const send = "const r = require('http').request({ socketPath: '/run/clawnode/agent.sock', method: 'POST', path: '/v1/invoke' }, (s) => s.pipe(process.stdout)); r.end('rm -rf /')";
    assert.match(await machine.output([...asMember, PROGRAM[0], '-e', send]), /INVALID_ARGUMENT/);
    await auditLog(/"surface":"socket","command":"none","params":null,"result":"INVALID_ARGUMENT"/);
  });

  test('policies that deny everything to everything cut off neither SSH, the store nor the agent: they are for workloads only', async () => {
    await machine.invoke('network.policy.create', { name: 'all', selector: {}, ingress: [], egress: [] });
    await machine.invoke('network.policy.create', { name: 'all', namespace: 'kube-system', selector: {}, ingress: [], egress: [] });
    const manifest = 'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny, namespace: default}\nspec: {podSelector: {}, policyTypes: [Ingress, Egress]}\n';
    await machine.invoke('network.apply', { manifest });
    for (const port of [22, 2379]) {
      assert.equal(await curl('--noproxy', '*', `http://192.0.2.1:${port}/`), `port ${port}`);
      assert.equal(await machine.output(['ip', 'netns', 'exec', 'lan', 'curl', '--silent', '--show-error', '--max-time', '5', `http://192.0.2.1:${port}/`]), `port ${port}`);
    }
    // The node's own connections to the outside go on as well: it is where a store or a mesh peer may be.
    assert.equal(await curl('--noproxy', '*', 'http://192.0.2.2:2379/'), 'port 2379');
    assert.match(await curl('http://127.0.0.1:10201/metrics'), /^clawnode_info/m);
    // The port of the ingress answers; what it may not dial it says so.
    const front = await machine.output(['ip', 'netns', 'exec', 'lan', 'curl', '--silent', '--max-time', '10', '-o', '/dev/null', '-w', '%{http_code}', '-H', 'Host: www.example.com', 'http://192.0.2.1:443/']);
    assert.match(front, /^50[234]$|^403$/);
    for (const name of ['all', 'deny']) await machine.invoke('network.policy.delete', { name });
    await machine.invoke('network.policy.delete', { name: 'all', namespace: 'kube-system' });
  });

  test('200 calls at once pass; changes that come too fast are refused, and the agent goes on', async () => {
    const parallel = (count: number): Promise<string> => machine.output([process.execPath, '-e', PARALLEL, String(count)]);
    assert.equal(await parallel(200), 'ok 200\n');
    await agent.stop();
    await machine.output(['sh', '-c', `echo 'limits: {changesPerSecond: 2}' >>/run/config.yaml`]);
    agent = await machine.upThrough(asService, '--config', '/run/config.yaml', '--node', 'n1');
    assert.match(await parallel(60), /^LIMIT_EXCEEDED [345]\d\nok \d+\n$/);
    await auditLog(/"command":"service\.create".*"result":"LIMIT_EXCEEDED"/);
    assert.match(JSON.stringify(await machine.invoke('network.status')), /"inSync":true/);
    await sleep(1500);
    await machine.invoke('service.create', { name: 'later', port: 80, selector: { app: 'x' } });
  });
});

test('status --ready waits no longer than told where no agent answers', async () => {
  const beganMs = performance.now();
  const { exitCode, stderr } = await clawnode(['status', '--ready', '1'], { env: { CLAWNODE_SOCKET: '/nonexistent/agent.sock' } });
  assert.equal(exitCode, 1);
  assert.match(stderr, /AGENT_UNREACHABLE/);
  assert.ok(performance.now() - beganMs > 1000);
});

/** Group and users of its own, programs that all users reach, an outside machine with a listener, and listeners on ports of the node. */
const PREPARE = `
printf '%s\\n' "$1" >/run/config.yaml
{ cat /etc/group; echo 'clawnode:x:${GROUP}:'; } | grep -v '^clawnode:x:[^6]' >/run/group
mount --bind /run/group /etc/group
mkdir /run/checkout && mount --rbind "$2" /run/checkout
: >/run/node && mount --bind "$3" /run/node
ip netns add guest
ip netns add lan
ip link add lan0 type veth peer name eth0 netns lan
ip address add 192.0.2.1/30 dev lan0 && ip link set lan0 up
ip -n lan address add 192.0.2.2/30 dev eth0 && ip -n lan link set eth0 up && ip -n lan link set lo up
server='for (const port of process.argv.slice(1)) require("http").createServer((q, s) => s.end("port " + port)).listen(port)'
setsid "$3" -e "$server" 22 2379 </dev/null >/dev/null 2>&1 &
setsid ip netns exec lan "$3" -e "$server" 2379 </dev/null >/dev/null 2>&1 &
`;

const PARALLEL = `
const count = Number(process.argv[1]);
const call = (n) => new Promise((resolve) => {
  const request = require('http').request({ socketPath: '/run/clawnode/agent.sock', method: 'POST', path: '/v1/invoke', agent: false }, (response) => {
    let body = '';
    response.on('data', (chunk) => (body += chunk));
    response.on('end', () => resolve(JSON.parse(body).code ?? 'ok'));
  });
  request.on('error', (error) => resolve(error.code));
  request.end(JSON.stringify({ command: 'service.create', params: { name: 'p' + count + '-' + n, port: 80, selector: { app: 'p' } } }));
});
Promise.all(Array.from({ length: count }, (_, n) => call(n))).then((results) => {
  const counts = {};
  for (const result of results) counts[result] = (counts[result] ?? 0) + 1;
  for (const key of Object.keys(counts).sort()) console.log(key + ' ' + counts[key]);
});
`;
