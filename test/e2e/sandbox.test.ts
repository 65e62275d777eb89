/** The sandbox on the real kernel with a fake agent: what it is inside, who is reaped, started again and ended. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { access, mkdir, mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { run, start } from '../../src/drivers/exec.ts';
import { openSandbox, signalEntered, type Sandbox, type SandboxOptions } from '../../src/sandbox/sandbox.ts';
import { connectAgent } from '../../src/surfaces/agent-client.ts';
import { asOrdinaryUser, checkout, eventually, fakeAgentArgv, pidNamespaceOf, processesOf, runInside } from '../cli/sandbox-fixture.ts';

// A place of its own tells what these tests leave behind from what others on this machine are doing.
const directory = await mkdtemp('/tmp/claw-sandboxes-');
process.env['TMPDIR'] = directory;
after(() => rm(directory, { recursive: true }));

const never = new AbortController().signal;
const INGRESS_PORT = 22_443;
const HOLDER = join(checkout, 'test', 'cli', 'sandbox-holder.ts');

async function opened(t: TestContext, options: SandboxOptions = {}): Promise<Sandbox> {
  const sandbox = await openSandbox({ agent: fakeAgentArgv, ingressPort: INGRESS_PORT, ...options }, never);
  t.after(sandbox.close);
  return sandbox;
}

const shell = (sandbox: Sandbox, script: string): ReturnType<typeof runInside> => runInside(sandbox, ['sh', '-c', script]);

test('inside there is a network of its own, an empty /run, its own /sys and no way to a resolver', async (t) => {
  const sandbox = await opened(t);
  assert.match((await shell(sandbox, 'ip -br address')).stdout, /^lo +UNKNOWN +127\.0\.0\.1\/8[^\n]*$/);
  assert.equal((await shell(sandbox, 'ls /sys/class/net')).stdout, 'lo');
  // libmount keeps its notes in /run/mount.
  assert.deepEqual((await shell(sandbox, 'ls /run; stat -f -c %T /run')).stdout.split('\n'), ['mount', 'tmpfs']);
  assert.match((await shell(sandbox, 'cat /etc/resolv.conf')).stdout, /^nameserver 127\.0\.0\.1$/m);
  assert.equal((await shell(sandbox, 'ip netns add one && ip netns exec one ip -br link | wc -l && ip netns delete one && ip netns')).stdout, '1');
  assert.equal((await shell(sandbox, 'iptables -t nat -N CLAW-T && ipset create t hash:ip,port,ip && echo fine')).stdout, 'fine');
});

test('a command keeps directory, locale, environment and exit code, and finds the agent', async (t) => {
  const sandbox = await opened(t);
  assert.equal((await shell(sandbox, 'pwd')).stdout, process.cwd());
  assert.equal((await shell(sandbox, 'echo "$CLAWNODE_SOCKET"')).stdout, sandbox.socketPath);
  assert.equal((await shell(sandbox, 'echo "${LC_ALL-unset}"')).stdout, process.env['LC_ALL'] ?? 'unset');
  assert.equal((await shell(sandbox, 'exit 7')).exitCode, 7);
  assert.equal((await shell(sandbox, 'kill -USR1 $$')).signal, 'SIGUSR1');
  assert.equal((await runInside(sandbox, ['no-such-program'])).exitCode, 127);
  assert.deepEqual((await runInside(sandbox, ['echo', 'a b', '$HOME', '"'])).stdout, 'a b $HOME "');
  assert.equal((await connectAgent(sandbox.socketPath).health(never)).mode, 'sandbox');
});

test('a signal reaches the program, not only nsenter', async (t) => {
  const sandbox = await opened(t);
  const child = sandbox.enter(['sh', '-c', 'trap "exit 9" TERM; echo ready; while :; do sleep 0.05; done'], ['ignore', 'pipe', 'inherit']);
  const ended = once(child, 'exit');
  if (child.stdout !== null) await once(child.stdout, 'data');
  await signalEntered(child, 'SIGTERM');
  assert.deepEqual(await ended, [9, null]);
  await signalEntered(child, 'SIGTERM');
});

test('PID 1 reaps orphans: none of 50 stays a zombie', async (t) => {
  const sandbox = await opened(t);
  await shell(sandbox, 'i=0; while [ $i -lt 50 ]; do (sleep 0.2 & echo $! >>/run/orphans); i=$((i+1)); done');
  assert.equal((await shell(sandbox, 'wc -l </run/orphans')).stdout, '50');
  await eventually(
    async () => (await shell(sandbox, 'for pid in $(cat /run/orphans); do test -e /proc/$pid && echo $pid; done; true')).stdout,
    (left) => left === '',
  );
});

test('a killed agent is started again, and what it had started lives on', async (t) => {
  const sandbox = await opened(t);
  const pidFile = join(dirname(sandbox.socketPath), 'pid');
  await shell(sandbox, 'setsid sleep 1000 >/dev/null 2>&1 & echo $! >/run/orphan');
  for (let round = 0; round < 3; round += 1) {
    const before = await readFile(pidFile, 'utf8');
    await shell(sandbox, `kill -KILL ${before}`);
    await eventually(() => readFile(pidFile, 'utf8'), (now) => now !== before && now !== '');
  }
  const agent = connectAgent(sandbox.socketPath);
  await eventually(() => agent.health(never).then(({ ready }) => ready, () => false), Boolean);
  assert.equal((await shell(sandbox, 'kill -0 $(cat /run/orphan) && echo alive')).stdout, 'alive');
});

test('SIGKILL of the outer process ends everything inside, ten times out of ten', async () => {
  for (let round = 0; round < 10; round += 1) {
    const inside = round % 2 === 0 ? ['sh', '-c', 'setsid sleep 1000 & sleep 1000'] : [];
    const holder = start([process.execPath, HOLDER, ...inside], { stdio: ['ignore', 'pipe', 'inherit'] });
    const { initPid } = await told(holder);
    const namespace = await pidNamespaceOf(initPid);
    assert.ok((await processesOf(namespace)).length >= 4);
    holder.kill('SIGKILL');
    await eventually(() => processesOf(namespace), (left) => left.length === 0);
  }
});

test('SIGKILL of the outer process while it still opens leaves no process either', async () => {
  for (let afterMs = 80; afterMs < 480; afterMs += 20) {
    const holder = start([process.execPath, HOLDER], { stdio: 'ignore' });
    const ended = once(holder, 'exit');
    await delay(afterMs);
    holder.kill('SIGKILL');
    await ended;
    await eventually(() => processesNaming(directory), (left) => left.length === 0);
  }
});

test('what a killed sandbox left in the temporary directory is removed by the next, a living one keeps its own', async (t) => {
  const living = await opened(t);
  const holder = start([process.execPath, HOLDER], { stdio: ['ignore', 'pipe', 'inherit'] });
  const { directory: abandoned } = await told(holder);
  const ended = once(holder, 'exit');
  holder.kill('SIGKILL');
  await ended;
  await access(abandoned);
  await opened(t);
  await assert.rejects(access(abandoned), { code: 'ENOENT' });
  await access(living.agentLog);
});

test('closing ends every process and removes the directory, also when called twice', async () => {
  const sandbox = await openSandbox({ agent: fakeAgentArgv, ingressPort: INGRESS_PORT }, never);
  const namespace = await pidNamespaceOf(sandbox.initPid);
  const child = sandbox.enter(['sh', '-c', 'echo ready; exec sleep 1000'], ['ignore', 'pipe', 'inherit']);
  const ended = once(child, 'exit');
  if (child.stdout !== null) await once(child.stdout, 'data');
  await Promise.all([sandbox.close(), sandbox.close()]);
  await sandbox.ended;
  assert.deepEqual(await ended, [null, 'SIGKILL']);
  await eventually(() => processesOf(namespace), (left) => left.length === 0);
  await assert.rejects(access(dirname(sandbox.socketPath)), { code: 'ENOENT' });
});

test('three sandboxes run beside each other with the same addresses and different ports', async (t) => {
  const sandboxes = await Promise.all([opened(t), opened(t), opened(t)]);
  assert.equal(new Set(sandboxes.map(({ ingressUrl }) => ingressUrl)).size, 3);
  const outputs = await Promise.all(sandboxes.map((sandbox) => shell(sandbox, 'ip address add 10.201.0.1/32 dev lo && ip -br address show lo')));
  for (const { stdout } of outputs) assert.match(stdout, /10\.201\.0\.1\/32/);
});

test('the ingress is published outside, on the next port when the wished one is taken', async (t) => {
  const blocker = createServer().listen(INGRESS_PORT + 50, '127.0.0.1');
  await once(blocker, 'listening');
  t.after(() => blocker.close());
  const sandbox = await opened(t, { ingressPort: INGRESS_PORT + 50 });
  assert.equal(sandbox.ingressUrl, `http://127.0.0.1:${INGRESS_PORT + 51}`);
  const serve = `require('http').createServer((q, s) => s.end('hello ' + q.url)).listen(process.argv[1], () => console.log('up'))`;
  const ingressSocket = join(dirname(sandbox.socketPath), 'proxy', 'ingress.sock');
  await mkdir(dirname(ingressSocket));
  const server = sandbox.enter([process.execPath, '-e', serve, ingressSocket], ['ignore', 'pipe', 'inherit']);
  if (server.stdout !== null) await once(server.stdout, 'data');
  assert.equal(await (await fetch(`${sandbox.ingressUrl}/x`)).text(), 'hello /x');
});

test('an agent that can not start says why, and nothing is left', async () => {
  const words = JSON.stringify({ code: 'CONFIG_INVALID', message: 'ranges: wrong', path: 'ranges', hint: 'read' });
  const before = await sharedDirectories();
  const opening = openSandbox({ agent: () => ['sh', '-c', 'echo noise >&2; echo "$1" >&2; exit 1', 'sh', words] }, never);
  await assert.rejects(opening, { code: 'CONFIG_INVALID', path: 'ranges', hint: 'read' });
  await assert.rejects(openSandbox({ agent: () => ['sh', '-c', 'echo last words; exit 3'] }, never), { code: 'PROCESS_FAILED', hint: 'last words' });
  assert.deepEqual(await sharedDirectories(), before);
});

test('a sandbox that is no longer wanted while it opens leaves nothing', async () => {
  const before = await sharedDirectories();
  for (const afterMs of [0, 5, 20, 60]) {
    const stop = new AbortController();
    const opening = openSandbox({ agent: () => ['sleep', '1000'] }, stop.signal);
    const timer = setTimeout(() => stop.abort(), afterMs);
    await assert.rejects(opening, { name: 'AbortError' });
    clearTimeout(timer);
  }
  assert.deepEqual(await sharedDirectories(), before);
});

test('an ordinary user has the same sandbox', async () => {
  const script = `
    import { openSandbox } from '${checkout}/src/sandbox/sandbox.ts';
    import { fakeAgentArgv, runInside } from '${checkout}/test/cli/sandbox-fixture.ts';
    const sandbox = await openSandbox({ agent: fakeAgentArgv, ingressPort: ${INGRESS_PORT} }, new AbortController().signal);
    const { stdout } = await runInside(sandbox, ['sh', '-c', 'iptables -t nat -N CLAW-T && ip netns add one && ipset create t hash:ip && echo fine']);
    console.log(process.getuid() === 0 ? 'root' : stdout);
    await sandbox.close();`;
  const argv = asOrdinaryUser(['env', 'PATH=/usr/bin:/bin', 'TMPDIR=/tmp', process.execPath, '--input-type=module-typescript', '-e', script]);
  assert.equal((await run(argv)).stdout.trim(), 'fine');
});

test('where user namespaces are off, the error names the setting, its value and the choices', async () => {
  const script = `
    import { openSandbox } from '${checkout}/src/sandbox/sandbox.ts';
    await openSandbox({}, new AbortController().signal).then(() => undefined, (error) => console.log(JSON.stringify(error)));`;
  const off = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"';
  const node = [process.execPath, '--input-type=module-typescript', '-e', script] as const;
  const { stdout } = await run(['unshare', '--user', '--map-root-user', 'sh', '-c', off, 'sh', ...node]);
  const error = JSON.parse(stdout);
  assert.equal(error.code, 'SANDBOX_UNAVAILABLE');
  assert.match(error.message, /user\.max_user_namespaces = 0/);
  assert.match(error.hint, /sysctl -w user\.max_user_namespaces=.*clawnode up.*--mode model/);
});

async function told(holder: ReturnType<typeof start>): Promise<{ initPid: number; directory: string }> {
  assert.ok(holder.stdout !== null);
  const [line] = await once(createInterface({ input: holder.stdout }), 'line');
  return JSON.parse(line);
}

/** The pids of processes that have a text in their arguments. */
async function processesNaming(part: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
  return pids.filter((_, index) => lines[index]?.includes(part));
}

async function sharedDirectories(): Promise<string[]> {
  return (await readdir(directory)).filter((name) => name.startsWith('clawnode-sandbox-')).toSorted();
}
