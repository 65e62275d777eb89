/** The command line against a fake agent: what goes to which stream, and the exit codes. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { tools } from '../../tools/index.ts';
import { clawnode } from './cli-process.ts';
import { fakeAgent } from './fake-agent.ts';

const directory = await mkdtemp(join(tmpdir(), 'claw-cli-'));
const socketPath = join(directory, 'agent.sock');
const env = { CLAWNODE_SOCKET: socketPath };
const SUBCOMMANDS = ['up', 'mcp', 'invoke', 'sandbox', 'status', 'simulate', 'doctor', 'install-service', 'uninstall-service', 'demo', 'cleanup'];
const pool = { used: 1, free: 9, quarantined: 2 };
const service = { name: 'web', namespace: 'shop', clusterIp: '10.201.0.1', port: 80, endpoints: 3, healthy: 2 };
const healthy = {
  node: 'n1',
  mode: 'host',
  version: '9.9.9',
  serviceDiscovery: { serviceCount: 3, services: [service] },
  allocator: { stats: { clusterIps: pool, workloadIps: pool } },
  kernel: { inSync: true, backend: 'nft', revision: 7 },
  ingress: { port: 8443, running: true },
  drift: { repairs: 0 },
  workloads: { total: 3, running: 2, failed: 1 },
  conntrack: { entries: 12, maximum: 262_144 },
  metrics: { url: 'http://127.0.0.1:10201/metrics' },
  warnings: ['workload shop/a could not be started', 'service shop/b has no healthy endpoint'],
};
const server = fakeAgent({ status: healthy });

before(async () => {
  server.listen(socketPath);
  await once(server, 'listening');
});
after(async () => {
  server.closeAllConnections();
  server.close();
  await rm(directory, { recursive: true });
});

test('invoke prints the answer as one line of JSON and nothing else', async () => {
  assert.deepEqual(await clawnode(['invoke', 'echo', '{"name":"web","n":[1,2]}'], { env }), {
    exitCode: 0,
    signal: null,
    stdout: '{"name":"web","n":[1,2]}\n',
    stderr: '',
  });
});

test('invoke reads its parameters from standard input for -, and takes none for {}', async () => {
  assert.equal((await clawnode(['invoke', 'echo', '-'], { env, input: ' {"a":\n1}\n' })).stdout, '{"a":1}\n');
  assert.equal((await clawnode(['invoke', 'echo'], { env })).stdout, '{}\n');
});

test('an answer of a megabyte arrives whole', async () => {
  const input = JSON.stringify({ text: 'x'.repeat(1_000_000) });
  assert.equal((await clawnode(['invoke', 'echo', '-'], { env, input })).stdout, `${input}\n`);
});

test("invoke prints the agent's error as JSON on standard error and ends with 1", async () => {
  const { exitCode, stdout, stderr } = await clawnode(['invoke', 'service.get', '{"name":"web"}'], { env });
  assert.deepEqual({ exitCode, stdout }, { exitCode: 1, stdout: '' });
  assert.deepEqual(JSON.parse(stderr), { code: 'SERVICE_NOT_FOUND', message: 'no web', path: 'name', hint: 'look' });
});

test('every failure of invoke is a JSON error and exit code 1, wrong usage too', async () => {
  const cases = [
    { args: ['echo', '{"a":'], code: 'INVALID_ARGUMENT' },
    { args: [], code: 'INVALID_ARGUMENT' },
    { args: ['echo', '{}', '{}'], code: 'INVALID_ARGUMENT' },
    { args: ['--no-such-flag', 'echo'], code: 'INVALID_ARGUMENT' },
    { args: ['drop'], code: 'AGENT_UNREACHABLE' },
  ];
  for (const { args, code } of cases) {
    const { exitCode, stdout, stderr } = await clawnode(['invoke', ...args], { env });
    assert.deepEqual({ exitCode, stdout, code: JSON.parse(stderr).code, hasHint: 'hint' in JSON.parse(stderr) }, { exitCode: 1, stdout: '', code, hasHint: true });
  }
});

test('without an agent, invoke says how to start one', async () => {
  const { exitCode, stderr } = await clawnode(['invoke', 'service.list'], { env: { CLAWNODE_SOCKET: join(directory, 'none') } });
  const error = JSON.parse(stderr);
  assert.equal(exitCode, 1);
  assert.equal(error.code, 'AGENT_UNREACHABLE');
  assert.match(error.hint, /clawnode up.*clawnode sandbox/);
});

test('invoke --verbose tells the time and the socket on standard error', async () => {
  const { stdout, stderr } = await clawnode(['invoke', '--verbose', 'echo'], { env });
  assert.equal(stdout, '{}\n');
  assert.match(stderr, new RegExp(`^echo on ${socketPath} took \\d+ ms\\n$`));
});

test('status shows how the node is, its workloads by state, what needs attention, and says what it leaves out', async () => {
  const { exitCode, stdout, stderr } = await clawnode(['status'], { env });
  assert.deepEqual({ exitCode, stderr }, { exitCode: 0, stderr: '' });
  assert.equal(
    stdout,
    `node          n1
mode          host
agent         clawnode 9.9.9 on ${socketPath}
kernel        in sync (nft, revision 7)
ingress       http on 8443
workloads     2 running, 1 failed
cluster IPs   1 used, 9 free, 2 quarantined
workload IPs  1 used, 9 free, 2 quarantined
connections   12 of 262144 tracked
metrics       http://127.0.0.1:10201/metrics
attention     workload shop/a could not be started
              service shop/b has no healthy endpoint

NAMESPACE  SERVICE  CLUSTER IP  PORT  HEALTHY
shop       web      10.201.0.1  80    2/3
and 2 more: clawnode invoke service.list '{"limit":500}'
`,
  );
  assert.equal(JSON.parse((await clawnode(['status', '--json'], { env })).stdout).node, 'n1');
});

test('status names what is wrong and ends with 1, with --json too', async () => {
  const reason = 'iptables-restore exited with 4';
  const cases = [
    { status: { kernel: { inSync: false, backend: 'nft', revision: 7, reason } }, line: `kernel        NOT in sync: ${reason}`, exitCode: 1 },
    { status: { ingress: { port: 8443, running: false, reason: 'port 8443 is in use' } }, line: 'ingress       NOT running: port 8443 is in use', exitCode: 1 },
    { status: { ingress: { port: 8443, running: false } }, line: 'ingress       starting on 8443', exitCode: 0 },
    { status: { ingress: { port: 8443, running: true, published: 'http://127.0.0.1:8444' } }, line: 'ingress       http on 8443, outside http://127.0.0.1:8444', exitCode: 0 },
    { status: { drift: { repairs: 2, lastRepairAt: '2026-01-01T00:00:00Z', last: 'a rule' } }, line: 'drift         2 repairs, the last: 2026-01-01T00:00:00Z, a rule', exitCode: 0 },
    { status: { conntrack: null, metrics: { failure: 'the port is in use' } }, line: 'metrics       NOT served: the port is in use', exitCode: 0 },
    { status: { conntrack: null, metrics: {}, warnings: [] }, line: 'connections   none tracked', exitCode: 0 },
    { status: { metrics: {}, workloads: { total: 0 } }, line: 'metrics       off', exitCode: 0 },
    { status: { workloads: { total: 0 } }, line: 'workloads     none', exitCode: 0 },
  ];
  for (const [index, { status, line, exitCode }] of cases.entries()) {
    const path = join(directory, `status-${index}.sock`);
    const agent = fakeAgent({ status: { ...healthy, ...status } }).listen(path);
    await once(agent, 'listening');
    const shown = await clawnode(['status'], { env: { CLAWNODE_SOCKET: path } });
    const json = await clawnode(['status', '--json'], { env: { CLAWNODE_SOCKET: path } });
    agent.closeAllConnections();
    agent.close();
    assert.ok(shown.stdout.split('\n').includes(line), shown.stdout);
    assert.deepEqual([shown.exitCode, json.exitCode], [exitCode, exitCode]);
  }
});

test('help names every subcommand, and every subcommand has help of its own', async () => {
  const { exitCode, stdout } = await clawnode(['--help']);
  assert.equal(exitCode, 0);
  for (const name of SUBCOMMANDS) {
    assert.match(stdout, new RegExp(`^  ${name} `, 'm'));
    const help = await clawnode([name, '--help']);
    assert.deepEqual({ exitCode: help.exitCode, stderr: help.stderr }, { exitCode: 0, stderr: '' });
    assert.match(help.stdout, new RegExp(`^Usage: clawnode ${name}`));
  }
});

test('help of invoke names every command, and of a command every parameter', async () => {
  const all = await clawnode(['invoke', '--help']);
  assert.deepEqual({ exitCode: all.exitCode, stderr: all.stderr }, { exitCode: 0, stderr: '' });
  const lines = all.stdout.split('\n');
  for (const { command, description } of tools) assert.ok(lines.some((line) => line.startsWith(`  ${command} `) && line.endsWith(` ${description}`)), command);
  const one = await clawnode(['invoke', 'service.create', '--help']);
  assert.match(one.stdout, /^Usage: clawnode invoke service\.create 'JSON'\n/);
  assert.match(one.stdout, /^  name +string +required/m);
  assert.match(one.stdout, /^  namespace +string +default "default"/m);
  assert.match(one.stdout, /^  port +1–65535 /m);
  assert.equal((await clawnode(['invoke', '--help', 'service_create'])).stdout, one.stdout);
  assert.match((await clawnode(['help', 'invoke', 'network.status'])).stdout, /takes no parameters/);
  const none = await clawnode(['invoke', 'service.creat', '--help']);
  assert.deepEqual(none, { exitCode: 2, signal: null, stdout: '', stderr: 'clawnode invoke: there is no command "service.creat"; try `clawnode invoke --help`\n' });
});

test('help of a subcommand is what the subcommand says of itself', async () => {
  for (const name of ['status', 'demo']) assert.deepEqual(await clawnode(['help', name]), await clawnode([name, '--help']));
  assert.deepEqual(await clawnode(['help']), await clawnode(['--help']));
  assert.equal((await clawnode(['help', 'no-such'])).exitCode, 2);
});

test('wrong usage is one line on standard error and exit code 2', async () => {
  for (const args of [['no-such'], ['status', '--no-such'], ['sandbox', '--'], ['sandbox', 'stray'], ['simulate'], ['simulate', '-f', 'x', 'stray'], ['mcp', '--mode', 'other'], ['mcp', '--toolsets', 'x']]) {
    const { exitCode, stdout, stderr } = await clawnode(args);
    assert.deepEqual({ args, exitCode, stdout }, { args, exitCode: 2, stdout: '' });
    assert.match(stderr, /^clawnode[^\n]+--help`\n$/);
  }
  assert.equal((await clawnode([])).exitCode, 2);
});

test('sandbox says where a command belongs, whatever options it has', async () => {
  const { exitCode, stderr } = await clawnode(['sandbox', '--verbose', 'sh', '-c', 'true']);
  assert.deepEqual({ exitCode, stderr }, {
    exitCode: 2,
    stderr: 'clawnode sandbox: put the command behind --, as in `clawnode sandbox -- sh -c true`; try `clawnode sandbox --help`\n',
  });
});

test('the version is that of the package', async () => {
  assert.match((await clawnode(['--version'])).stdout, /^\d+\.\d+\.\d+\n$/);
});

test('mcp --mode host never opens a sandbox: it fails without an agent and before a sandbox agent', async () => {
  const none = await clawnode(['mcp', '--mode', 'host'], { env: { CLAWNODE_SOCKET: join(directory, 'none') } });
  assert.equal(none.exitCode, 1);
  assert.match(none.stderr, /AGENT_UNREACHABLE/);
  const sandboxSocket = join(directory, 'sandbox.sock');
  const sandboxAgent = fakeAgent({ mode: 'sandbox' }).listen(sandboxSocket);
  await once(sandboxAgent, 'listening');
  const wrong = await clawnode(['mcp', '--mode', 'host'], { env: { CLAWNODE_SOCKET: sandboxSocket } });
  sandboxAgent.close();
  assert.equal(wrong.exitCode, 1);
  assert.match(wrong.stderr, /sandbox mode, not in host mode/);
});

test('mcp attaches to the running agent and leaves when its client does', async () => {
  const { exitCode, stderr } = await clawnode(['mcp'], { env });
  assert.equal(exitCode, 0);
  assert.match(stderr, /speaking for node n1 \(host mode\)/);
});

test('doctor tells what is there as JSON', async () => {
  const { exitCode, stdout } = await clawnode(['doctor', '--json']);
  const { ok, findings } = JSON.parse(stdout);
  assert.equal(exitCode, ok ? 0 : 1);
  const states = new Map(findings.map(({ name, state }: { name: string; state: string }) => [name, state]));
  assert.equal(states.get('node'), 'ok');
  assert.equal(states.get('unshare'), 'ok');
});
