/** The command line with the real agent: sandbox, up, invoke, status, mcp, cleanup, as root and as an ordinary user. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { after, test } from 'node:test';
import { start, type Argv } from '../../src/drivers/exec.ts';
import { clawnode, launcher, runProcess } from '../cli/cli-process.ts';
import { asOrdinaryUser, checkout, eventually, processesOf } from '../cli/sandbox-fixture.ts';

const directory = await mkdtemp(join(tmpdir(), 'claw-e2e-'));
after(() => rm(directory, { recursive: true }));

const program: Argv = [process.execPath, launcher];
const SERVICE = '{"name":"web","port":80,"endpoints":[{"ip":"192.0.2.7"}]}';
// Inside a script, $CLAW is the command line.
const script = (body: string): Argv => ['sh', '-euc', `CLAW="${program.join(' ')}"\n${body}`];

test('a command in a sandbox drives the agent by invoke alone and sees what it programmed', async () => {
  const { exitCode, stdout, stderr } = await clawnode([
    'sandbox',
    '--',
    ...script(`
      $CLAW invoke service.create '${SERVICE}'
      $CLAW invoke service.list
      iptables-save -t nat | grep -c 10.201.0.1/32
      $CLAW invoke service.delete '{"name":"web"}'
      $CLAW invoke service.get '{"name":"web"}' 2>&1 || echo "exit $?"
      exit 7`),
  ]);
  assert.equal(exitCode, 7, stderr);
  const [created = '', listed = '', rules, deleted = '', gone = '', exited] = stdout.trim().split('\n');
  assert.equal(JSON.parse(created).clusterIp, '10.201.0.1');
  assert.equal(JSON.parse(created).enforced, true);
  assert.equal(JSON.parse(listed).count, 1);
  assert.ok(Number(rules) > 0);
  assert.equal(JSON.parse(deleted).deleted, true);
  assert.equal(JSON.parse(gone).code, 'SERVICE_NOT_FOUND');
  assert.equal(exited, 'exit 1');
});

test('the ingress of a sandbox answers outside, on the published port', async () => {
  const server = `require('http').createServer((q, s) => s.end('hello')).listen(8080)`;
  const workload = JSON.stringify({ name: 'web', labels: { app: 'web' }, command: [process.execPath, '-e', server] });
  const child = start(
    [
      ...program,
      'sandbox',
      '--verbose',
      '--ingress-port',
      '22643',
      '--',
      ...script(`
        $CLAW invoke workload.run "$WORKLOAD"
        $CLAW invoke service.create '{"name":"web","selector":{"app":"web"},"port":80,"targetPort":8080}'
        $CLAW invoke ingress.create '{"name":"web","rules":[{"host":"web.test","path":"/","service":"web"}]}'
        read line`),
    ],
    { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, WORKLOAD: workload } },
  );
  assert.ok(child.stdin !== null && child.stdout !== null && child.stderr !== null);
  const ended = once(child, 'exit');
  const stdout = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const stderr: string[] = [];
  createInterface({ input: child.stderr }).on('line', (line) => stderr.push(line));
  for (const command of ['workload.run', 'service.create', 'ingress.create']) assert.equal((await stdout.next()).done, false, `${command}: ${stderr.join('\n')}`);
  const url = /sandbox's ingress is on (\S+)/.exec(stderr.join('\n'))?.[1] ?? 'not told';
  const answer = await eventually(() => ask(url, 'web.test').catch(String), (seen) => seen === '200 hello');
  assert.equal(answer, '200 hello');
  assert.match(await ask(url, 'other.test'), /^404 /);
  child.stdin.end('\n');
  assert.deepEqual(await ended, [0, null]);
});

test('the quick start of the README does what it says, also where the only Node is in a folder of its own', async () => {
  const readme = await readFile(join(checkout, 'README.md'), 'utf8');
  const blocks = [...readme.slice(readme.indexOf('## Quick start')).matchAll(/```sh\n([^]*?)```/g)].map(([, body = '']) => body);
  const [enter, inside = ''] = blocks;
  assert.equal(enter, 'node bin/clawnode.js sandbox\n');
  assert.match(inside, /^clawnode invoke workload\.run [^]*\ncurl [^]*\ncurl -H /);
  // As with a version manager: workloads get the PATH of the system, which does not lead there.
  const folder = join(directory, 'own-node');
  await mkdir(folder);
  await symlink(process.execPath, join(folder, 'node'));
  const noCurl = 'curl() { for url; do :; done; case $1 in -H) host=${2#Host: };; *) host=;; esac; node -e "$CURL" "$url" "$host"; }';
  const curl = `
    const [url, host] = process.argv.slice(1);
    const ask = () => http.get(url, { headers: host ? { host } : {} }, (answer) => answer.statusCode === 200 ? answer.pipe(process.stdout) : setTimeout(ask, 50)).on('error', () => setTimeout(ask, 50));
    ask();`;
  const PATH = `${folder}:/usr/bin:/bin`;
  const argv: Argv = ['node', 'bin/clawnode.js', 'sandbox', '--', 'sh', '-euc', `${noCurl}\n${inside}`];
  const { exitCode, stdout, stderr } = await runProcess(argv, { env: { PATH, CURL: curl } });
  assert.equal(exitCode, 0, stderr);
  const [workload = '', service = '', , direct, ingress] = stdout.trim().split('\n');
  assert.equal(JSON.parse(workload).state, 'running');
  assert.equal(JSON.parse(service).clusterIp, '10.201.0.1');
  assert.deepEqual([direct, ingress], ['hello from web-1', 'hello from web-1']);
});

test('clawnode inside a sandbox is this program, whatever else is on the PATH, and Node is there for who has none', async () => {
  const folder = join(directory, 'another-clawnode');
  await mkdir(folder);
  await writeFile(join(folder, 'clawnode'), '#!/bin/sh\necho another\n', { mode: 0o755 });
  const inside = 'clawnode --version; clawnode invoke service.list; PATH=${PATH##*:}; node --version';
  const { exitCode, stdout, stderr } = await clawnode(['sandbox', '--', 'sh', '-euc', inside], { env: { PATH: `${folder}:/usr/bin:/bin` } });
  const { version } = JSON.parse(await readFile(join(checkout, 'package.json'), 'utf8'));
  assert.deepEqual({ exitCode, stdout }, { exitCode: 0, stdout: `${version}\n{"count":0,"services":[]}\n${process.version}\n` }, stderr);
});

test('without a command there is a shell that says it is inside and how to leave', async () => {
  const { exitCode, stdout, stderr } = await clawnode(['sandbox', '--ingress-port', '22743'], { env: { SHELL: '/bin/sh' }, input: 'echo "$PS1"; clawnode status | head -2\n' });
  assert.equal(exitCode, 0, stderr);
  assert.match(stdout, /^\(clawnode\) # \nnode [^\n]*\nmode +sandbox\n$/);
  assert.match(stderr, /^clawnode: the sandbox's ingress is on http:\/\/127\.0\.0\.1:\d+\nclawnode: its agent's log is \/\S+\nclawnode: [^\n]*`exit` ends it and everything else inside\n$/);
});

test('a command that is not there is named, and ends with 127', async () => {
  const { exitCode, stdout, stderr } = await clawnode(['sandbox', '--', 'no-such-program']);
  assert.deepEqual({ exitCode, stdout }, { exitCode: 127, stdout: '' });
  assert.match(stderr, /^clawnode: no-such-program: command not found\n$/m);
});

test('a killed agent is back by itself, and its services answer all the while', async () => {
  const server = `require('http').createServer((q, s) => s.end('hello')).listen(8080)`;
  const workload = JSON.stringify({ name: 'web', labels: { app: 'web' }, command: [process.execPath, '-e', server] });
  const client = `
    const ask = async () => { try { return await (await fetch('http://10.201.0.1')).text(); } catch (error) { return String(error.cause ?? error); } };
    while (await ask() !== 'hello') await new Promise((resolve) => setTimeout(resolve, 20));
    const answers = new Map();
    const end = Date.now() + 3000;
    console.log('serving');
    while (Date.now() < end) { const answer = await ask(); answers.set(answer, (answers.get(answer) ?? 0) + 1); }
    console.log(JSON.stringify([...answers.keys()]));`;
  const { exitCode, stdout, stderr } = await runProcess(
    [
      ...program,
      'sandbox',
      '--',
      ...script(`
        $CLAW invoke workload.run "$WORKLOAD" >/dev/null
        $CLAW invoke service.create '{"name":"web","selector":{"app":"web"},"port":80,"targetPort":8080}' >/dev/null
        "$NODE" --input-type=module -e "$CLIENT" >/run/client & client=$!
        until grep -q serving /run/client; do sleep 0.02; done
        for round in 1 2 3; do
          pkill -KILL -f '^[^ ]*node [^ ]*/agent-process'
          until $CLAW invoke service.get '{"name":"web"}' >/run/answer 2>/dev/null; do sleep 0.05; done
        done
        cat /run/answer; wait $client; tail -1 /run/client`),
    ],
    { env: { WORKLOAD: workload, CLIENT: client, NODE: process.execPath } },
  );
  assert.equal(exitCode, 0, stderr);
  const [service = '', answers = ''] = stdout.trim().split('\n');
  assert.equal(JSON.parse(service).liveEndpoints.length, 1);
  assert.deepEqual(JSON.parse(answers), ['hello']);
});

/** Status and body of a request with this Host, which fetch would not send. */
function ask(url: string, host: string): Promise<string> {
  return new Promise((resolve, reject) => {
    get(url, { headers: { host }, agent: false }, (response) => {
      text(response).then((body) => resolve(`${response.statusCode} ${body}`), reject);
    }).on('error', reject);
  });
}

test('status in a sandbox tells the mode and the services', async () => {
  const { stdout, stderr } = await clawnode(['sandbox', '--ingress-port', '22843', '--', ...script(`$CLAW invoke service.create '${SERVICE}' >/dev/null; $CLAW status`)]);
  assert.equal(stderr, "clawnode: the sandbox's ingress is on http://127.0.0.1:22843\n");
  assert.match(stdout, /^mode +sandbox$/m);
  assert.match(stdout, /^kernel +in sync \(nft, revision [1-9]\d*\)$/m);
  assert.match(stdout, /^ingress +(http on 8443, outside http:\/\/127\.0\.0\.1:22843|starting on 8443)$/m);
  assert.match(stdout, /^default +web +10\.201\.0\.1 +80 +1\/1$/m);
});

test('an ordinary user drives the same sandbox', async () => {
  const inside = script(`id -u; $CLAW invoke service.create '${SERVICE}'; exit 4`);
  const { exitCode, stdout, stderr } = await runProcess(asOrdinaryUser(['env', 'PATH=/usr/bin:/bin', ...program, 'sandbox', '--', ...inside]));
  assert.equal(exitCode, 4, stderr);
  assert.match(stdout, /^0\n.*"clusterIp":"10\.201\.0\.1"/);
});

test('a signal to the command line reaches the program inside, whose exit code is kept', async () => {
  const inside = ['sh', '-c', 'trap "exit 9" TERM; readlink /proc/self/ns/pid; while :; do sleep 0.05; done'];
  const child = start([...program, 'sandbox', '--', ...inside], { stdio: ['ignore', 'pipe', 'inherit'] });
  assert.ok(child.stdout !== null);
  const [namespace] = await once(createInterface({ input: child.stdout }), 'line');
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  assert.deepEqual(await ended, [9, null]);
  assert.deepEqual(await processesOf(namespace), []);
});

test('a configuration with a fault stops the sandbox with the place of the fault', async () => {
  const config = join(directory, 'wrong.yaml');
  await writeFile(config, 'nodeNumber: 999\n');
  const { exitCode, stdout, stderr } = await clawnode(['sandbox', '--config', config, '--', 'echo', 'never']);
  assert.deepEqual({ exitCode, stdout }, { exitCode: 1, stdout: '' });
  assert.match(stderr, /nodeNumber.*\(CONFIG_INVALID at nodeNumber\)/);
});

test('where user namespaces are off, sandbox says which setting it is', async () => {
  const off = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"';
  const { exitCode, stderr } = await runProcess(['unshare', '--user', '--map-root-user', 'sh', '-c', off, 'sh', ...program, 'sandbox', '--', 'true']);
  assert.equal(exitCode, 1);
  assert.match(stderr, /user\.max_user_namespaces = 0 \(SANDBOX_UNAVAILABLE\)\n {2}Allow them with/);
});

test('mcp opens a sandbox when there is no agent, answers, and leaves nothing when its client goes', async () => {
  const child = start([...program, 'mcp', '--read-only'], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, CLAWNODE_SOCKET: join(directory, 'no-agent.sock') },
  });
  assert.ok(child.stdin !== null && child.stdout !== null && child.stderr !== null);
  const stderr: string[] = [];
  createInterface({ input: child.stderr }).on('line', (line) => stderr.push(line));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const call = async (id: number, method: string, params: unknown): Promise<{ result: Record<string, unknown> }> => {
    child.stdin?.write(`${JSON.stringify({ jsonrpc: '2.0', id, method, params })}\n`);
    const { value } = await lines.next();
    assert.ok(value !== undefined, stderr.join('\n'));
    return JSON.parse(value);
  };
  const client = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'test', version: '1' } };
  assert.equal((await call(1, 'initialize', client)).result['protocolVersion'], '2025-11-25');
  const { result: status } = await call(2, 'tools/call', { name: 'network_status', arguments: {} });
  assert.match(JSON.stringify(status['structuredContent']), /"mode":"sandbox"/);
  const { result: refused } = await call(3, 'tools/call', { name: 'service_create', arguments: JSON.parse(SERVICE) });
  assert.equal(refused['isError'], true);
  const ended = once(child, 'exit');
  child.stdin.end();
  assert.deepEqual(await ended, [0, null]);
  assert.match(stderr.join('\n'), /speaking for a sandbox of its own \(no agent of this machine could be used: no agent answers on .*no-agent\.sock, which does not exist\); its ingress is on /);
});

test('up is for root, and an ordinary user is shown the sandbox', async () => {
  const { exitCode, stdout, stderr } = await runProcess(asOrdinaryUser([...program, 'up']));
  assert.deepEqual({ exitCode, stdout }, { exitCode: 1, stdout: '' });
  assert.match(stderr, /PERMISSION_DENIED[^]*clawnode sandbox/);
});

test('up and cleanup inside a sandbox refuse, and write nothing', async () => {
  const stateDir = join(directory, 'never-made');
  const inside = script(`
    for subcommand in up cleanup; do
      code=0; $CLAW $subcommand --state-dir ${stateDir} 2>&1 || code=$?
      echo "exit $code"
    done
    ls /run/clawnode/agent.sock 2>/dev/null || true
    test ! -e ${stateDir} && echo "nothing made"`);
  const { exitCode, stdout, stderr } = await clawnode(['sandbox', '--', ...inside]);
  assert.equal(exitCode, 0, stdout + stderr);
  assert.match(stdout, /^clawnode: this is a sandbox, its agent runs already on \S+ \(AGENT_ALREADY_RUNNING\)\n[^\n]+clawnode status[^\n]+\nexit 1\nclawnode: this is a sandbox[^\n]+\n[^\n]+ends with it[^\n]+\nexit 1\nnothing made\n$/);
});

/**
 * Runs a script as root of namespaces of its own: a machine to program that is not this one. There is no user namespace,
 * because in host mode workloads and proxy have uids of their own, and an ordinary user can map only one.
 */
function onOwnMachine(body: string): ReturnType<typeof runProcess> {
  const namespaces = ['--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
  const furnish = 'mount -t tmpfs tmpfs /run; mount -t sysfs sysfs /sys; mount -t tmpfs tmpfs /var/lib; ip link set lo up';
  return runProcess(['unshare', ...namespaces, ...script(`${furnish}\n${body}`)], { env: { CLAWNODE_SOCKET: '' } });
}

/** Starts the agent in the background and waits until it is ready; its words go to /run/up.log. */
const UP = `
  up() { $CLAW up --node n1 2>>/run/up.log & agent=$!; until grep -q "is ready" /run/up.log; do kill -0 $agent || { cat /run/up.log; exit 1; }; sleep 0.05; done; }
  down() { kill -TERM $agent; code=0; wait $agent || code=$?; echo "stopped $code"; : >/run/up.log; }
`;

/** For an ordinary user these tests can not be run: that is said, and the same parts run in sandbox mode above. */
function hostModeTest(name: string, body: () => Promise<void>): void {
  if (process.getuid?.() === 0) void test(name, body);
  else process.stderr.write(`not run, host mode needs root: ${name}\n`);
}

hostModeTest('up serves until SIGTERM and leaves services up; the next one takes them over', async () => {
  const { exitCode, stdout, stderr } = await onOwnMachine(`${UP}
    up; cat /run/up.log
    $CLAW invoke service.create '${SERVICE}' >/dev/null
    down
    iptables-save -t nat | grep -c CLAW-SERVICES
    up; $CLAW invoke service.get '{"name":"web"}'; down`);
  assert.equal(exitCode, 0, stdout + stderr);
  const [ready = '', stopped, rules, service = '', again] = stdout.trim().split('\n');
  assert.match(ready, /^clawnode \d+\.\d+\.\d+: node n1 is ready in host mode on \/run\/clawnode\/agent\.sock, pid \d+$/);
  assert.equal(stopped, 'stopped 0');
  assert.ok(Number(rules) > 0);
  assert.equal(JSON.parse(service).clusterIp, '10.201.0.1');
  assert.equal(again, 'stopped 0');
});

hostModeTest('a second agent on one state directory says so and leaves the first alone', async () => {
  const { exitCode, stdout, stderr } = await onOwnMachine(`${UP}
    up
    code=0; $CLAW up --socket /run/other.sock 2>&1 || code=$?; echo "second $code"
    $CLAW invoke service.list; down`);
  assert.equal(exitCode, 0, stdout + stderr);
  assert.match(stdout, /AGENT_ALREADY_RUNNING[^]*second 1\n\{"count":0/);
});

hostModeTest('up and cleanup heed CLAWNODE_SOCKET', async () => {
  const { exitCode, stdout, stderr } = await onOwnMachine(`${UP}
    export CLAWNODE_SOCKET=/run/named/agent.sock
    up; $CLAW invoke service.list; test -S $CLAWNODE_SOCKET
    code=0; $CLAW cleanup 2>&1 || code=$?; echo "cleanup $code"
    down`);
  assert.equal(exitCode, 0, stdout + stderr);
  assert.match(stdout, /^\{"count":0,"services":\[\]\}\nclawnode: an agent answers on \/run\/named\/agent\.sock[^]*cleanup 1\nstopped 0\n$/);
});

hostModeTest('cleanup without the state directory removes what the kernel holds, says so and makes nothing', async () => {
  const { exitCode, stdout, stderr } = await onOwnMachine(`${UP}
    up; $CLAW invoke service.create '${SERVICE}' >/dev/null; down
    $CLAW cleanup --state-dir /var/lib/typo
    test ! -e /var/lib/typo && echo "nothing made"
    iptables-save | grep CLAW- || echo "no rules"`);
  assert.equal(exitCode, 0, stdout + stderr);
  assert.match(stderr, /^clawnode: there is no state directory \/var\/lib\/typo: only what the kernel holds was removed, no process was stopped\n$/m);
  assert.match(stdout, /^stopped 0\nclean: [^\n]*\nnothing made\nno rules\n$/);
});

hostModeTest('cleanup refuses while an agent runs, then removes what is ours and nothing else', async () => {
  const { exitCode, stdout, stderr } = await onOwnMachine(`${UP}
    iptables -t nat -A PREROUTING -d 192.0.2.1/32 -p tcp -j DNAT --to-destination 192.0.2.2
    iptables -A FORWARD -s 192.0.2.3/32 -j DROP
    ipset create foreign hash:ip
    # Listing creates the tables that a list shows, so all three exist before the comparison.
    state() { for table in raw filter nat; do iptables-save -t $table | grep -v -e '^#' -e '^:[A-Z]* ' ; done; ipset save; ip -br address; ip route show table all; ip rule; ip netns; }
    state >/run/before
    up
    $CLAW invoke service.create '${SERVICE}' >/dev/null
    code=0; $CLAW cleanup 2>&1 || code=$?; echo "running $code"
    down
    $CLAW cleanup; state >/run/after
    diff /run/before /run/after && echo clean
    $CLAW cleanup && echo twice`);
  assert.equal(exitCode, 0, stdout + stderr);
  assert.match(stdout, /AGENT_ALREADY_RUNNING[^]*running 1\nstopped 0\n[^]*clean\n[^]*twice\n$/);
});
