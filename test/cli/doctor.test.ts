/** What is said and installed on machines that lack something, played with a PATH of few programs and an apt-get that only notes. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { access, chmod, mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { delimiter, dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { z } from 'zod';
import { configSchema } from '../../src/config.ts';
import { start } from '../../src/drivers/exec.ts';
import { aptCommand, missingPackages } from '../../src/surfaces/cli/apt.ts';
import { refuseTakenSocket } from '../../src/surfaces/agent-socket.ts';
import { inspectAgent } from '../../src/surfaces/cli/doctor/agent.ts';
import { AREAS, isFit, type Finding } from '../../src/surfaces/cli/doctor/finding.ts';
import { inspectEverything } from '../../src/surfaces/cli/doctor/inspect.ts';
import { inspectPorts } from '../../src/surfaces/cli/doctor/ports.ts';
import { inspectRights } from '../../src/surfaces/cli/doctor/rights.ts';
import { inspectService, installedService } from '../../src/surfaces/cli/doctor/service.ts';
import { unitText } from '../../src/surfaces/cli/service/unit.ts';
import { clawnode, launcher, runProcess } from './cli-process.ts';
import { fakeAgent } from './fake-agent.ts';
import { asOrdinaryUser, checkout } from './sandbox-fixture.ts';

const isRoot = process.getuid?.() === 0;
const directory = await mkdtemp('/tmp/claw-doctor-');
const log = join(directory, 'apt.log');
after(() => rm(directory, { recursive: true }));

// Programs of /usr/sbin are found on any PATH, so what can be made to lack are those of /usr/bin: util-linux and mount.
await writeFile(join(directory, 'apt-get'), `#!/bin/sh\necho "$DEBIAN_FRONTEND $*" >>${log}\n`);
await chmod(join(directory, 'apt-get'), 0o755);
await symlink(await programPath('env'), join(directory, 'env'));
await chmod(directory, 0o755);
const env = { PATH: directory };

async function programPath(name: string): Promise<string> {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const path = join(folder, name);
    if (await access(path).then(() => true, () => false)) return path;
  }
  throw new Error(`${name} is not on the PATH`);
}

function finding(name: string, fields: Partial<Finding>): Finding {
  return { area: 'tools', name, need: 'required', state: 'missing', detail: '', purpose: '', ...fields };
}

test('packages are named once and in order', () => {
  const findings = [
    finding('user namespaces', { need: 'recommended' }),
    finding('unshare', { package: 'util-linux' }),
    finding('nsenter', { package: 'util-linux' }),
    finding('ipset', { package: 'ipset' }),
    finding('iptables', { package: 'iptables', state: 'ok' }),
    finding('node', {}),
  ];
  assert.deepEqual(missingPackages(findings), ['ipset', 'util-linux']);
  assert.equal(aptCommand(['ipset']), `${isRoot ? '' : 'sudo '}apt-get install -y --no-install-recommends ipset`);
});

test('doctor names the packages of what is missing and ends with 1', async () => {
  const { exitCode, stdout } = await clawnode(['doctor'], { env });
  assert.equal(exitCode, 1);
  assert.match(stdout, /^ +missing +unshare: not installed$/m);
  assert.match(stdout, /required and missing:\n {2}(sudo )?apt-get install -y --no-install-recommends [^\n]*util-linux/);
});

test('a program is missing too where one directory of the PATH may not be looked into', async () => {
  const closed = join(directory, 'closed');
  await mkdir(closed, { mode: 0 });
  const { exitCode, stdout } = await runProcess(asOrdinaryUser(['env', `PATH=${closed}:${directory}`, process.execPath, launcher, 'doctor']));
  assert.match(stdout, /^ +missing +unshare: not installed$/m);
  assert.equal(exitCode, 1);
});

test('the metrics of an agent in a sandbox are our own', async () => {
  const program = join(directory, 'sandbox', 'agent-process.js');
  await mkdir(dirname(program));
  await writeFile(program, "require('node:net').createServer().listen(0, '127.0.0.1', function () { console.log(this.address().port); });\n");
  const child = start([process.execPath, program], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const [said] = child.stdout === null ? [] : await once(child.stdout, 'data');
    const port = Number(String(said));
    const found = await inspectPorts(configSchema.parse({ metrics: { port } }), new AbortController().signal);
    assert.deepEqual(found.filter(({ name }) => name === `port ${port}`).map(({ state, detail }) => ({ state, detail })), [{ state: 'ok', detail: 'in use by clawnode itself, for metrics' }]);
  } finally {
    child.kill('SIGKILL');
  }
});

test('an ordinary user is told exactly what to install, in one line, and nothing is installed', async () => {
  for (const argv of [[launcher, 'doctor', '--fix'], [join(checkout, 'scripts', 'prepare-machine.ts'), '--for', 'tests']]) {
    const { exitCode, stderr } = await runProcess(asOrdinaryUser(['env', `PATH=${directory}`, process.execPath, ...argv]));
    assert.equal(exitCode, 1);
    assert.match(stderr, /sudo apt-get install -y --no-install-recommends [^\n]*\bmount\b[^\n]*\butil-linux\b/);
  }
  await assert.rejects(access(log), { code: 'ENOENT' });
});

test('for an ordinary user nothing is a warning only because of the rights', async () => {
  const { stdout } = await runProcess(asOrdinaryUser([process.execPath, launcher, 'doctor', '--json']));
  const programs: { name: string; state: string; detail: string; package?: string }[] = JSON.parse(stdout).findings.filter((entry: Finding) => entry.package !== undefined);
  assert.ok(programs.some(({ name }) => name === 'ipset'));
  for (const { name, state, detail } of programs) {
    assert.equal(state, 'ok', name);
    assert.match(detail, /^\d+\.\d+/, name);
  }
});

test('doctor names only what this version uses', async () => {
  const { stdout } = await clawnode(['doctor', '--all']);
  assert.match(stdout, /^ +ok +iptables: /m);
  assert.match(stdout, /^ +ok +ulogd: /m);
  assert.doesNotMatch(stdout, /wireguard|wg|51820/i);
});

test('doctor is one line for an area where all is well, and fits in 100 columns', async () => {
  const { stdout } = await clawnode(['doctor']);
  assert.match(stdout, /^tools\n {2}ok +\d+ found: node v[^]*?\n\S/m);
  assert.doesNotMatch(stdout, /setpriv: /);
  for (const args of [['doctor'], ['doctor', '--all']]) for (const line of (await clawnode(args)).stdout.split('\n')) assert.ok(line.length <= 100, line);
});

test('each finding says where it belongs, what it is for, and what to do when something is wrong', async () => {
  const { findings } = JSON.parse((await clawnode(['doctor', '--json'], { env })).stdout);
  for (const { area, purpose, state, fix, package: packageName, name, detail } of findings) {
    assert.ok(AREAS.includes(area) && purpose !== '' && detail !== '', name);
    if (state === 'missing') assert.ok(fix !== undefined || packageName !== undefined, name);
  }
});

test('the configuration that is named counts: its ports, its ranges, who has them, and what is wrong with it', async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const { port } = z.object({ port: z.number() }).parse(taken.address());
  const file = join(directory, 'config.yaml');
  await writeFile(file, `ingress: {port: ${port}}\nmetrics: {enabled: false}\nranges: {mesh: 127.0.0.0/16}\n`);
  const findings = async (...args: string[]): Promise<Map<string, Finding>> => {
    const { stdout } = await clawnode(['doctor', '--json', ...args]);
    return new Map(JSON.parse(stdout).findings.map((entry: Finding) => [entry.name, entry]));
  };
  try {
    const found = await findings('--config', file);
    const held = found.get(`port ${port}`);
    assert.deepEqual({ state: held?.state, port8443: found.has('port 8443'), metrics: found.has('port 10201') }, { state: 'warning', port8443: false, metrics: false });
    assert.match(held?.detail ?? '', new RegExp(`^in use by .*\\(pid ${process.pid}\\)`));
    assert.match(held?.fix ?? '', /ingress\.port/);
    assert.match(found.get('address ranges')?.detail ?? '', /^mesh 127\.0\.0\.0\/16 overlaps address 127\.0\.0\.0\/8 of lo: the agent would not start$/);
    assert.match(found.get('address ranges')?.fix ?? '', /ranges\.mesh/);
  } finally {
    taken.close();
  }
  await writeFile(file, 'ingres: {}\n');
  const wrong = (await findings('--config', file)).get('configuration');
  assert.deepEqual({ state: wrong?.state, fix: wrong?.fix }, { state: 'warning', fix: 'docs/configuration.md lists all fields.' });
});

test('the agent: none, one that is gone, one of another version, and what it says of itself', async () => {
  const agentOf = async (socketPath: string): Promise<Finding[]> => inspectAgent({ socketPath, version: '0.0.0' }, new AbortController().signal);
  const socketPath = join(directory, 'agent.sock');
  assert.match((await agentOf(socketPath))[0]?.detail ?? '', /^none runs: there is no /);
  const gone = createServer().listen(socketPath);
  await once(gone, 'listening');
  await rename(socketPath, `${socketPath}.kept`);
  gone.close();
  await rename(`${socketPath}.kept`, socketPath);
  assert.match((await agentOf(socketPath))[0]?.detail ?? '', /one that is gone has left /);
  await rm(socketPath);
  await writeFile(socketPath, 'kept');
  assert.match((await agentOf(socketPath))[0]?.detail ?? '', /agent\.sock is no socket$/);
  await assert.rejects(refuseTakenSocket(socketPath), { code: 'CONFLICT' });
  assert.equal(await readFile(socketPath, 'utf8'), 'kept');
  await rm(socketPath);
  const status = { kernel: { inSync: false, reason: 'no nft' }, ingress: { running: false, reason: 'port 8443 is in use' }, drift: { repairs: 2, last: 'a rule' }, audit: { works: false, reason: 'no ulogd' }, warnings: ['service a has no endpoint'] };
  const agent = fakeAgent({ status }).listen(socketPath);
  await once(agent, 'listening');
  try {
    assert.deepEqual((await agentOf(socketPath)).map(({ name, state }) => `${name} ${state}`), ['agent ok', 'in force warning', 'ingress warning', 'flow log warning', 'drift note', 'attention warning']);
    const [other] = await inspectAgent({ socketPath, version: '9.9.9' }, new AbortController().signal);
    assert.match(other?.detail ?? '', /^0\.0\.0, node n1, host mode, pid \d+; this program is 9\.9\.9$/);
    assert.match(other?.fix ?? '', /^Restart it: /);
  } finally {
    agent.closeAllConnections();
    agent.close();
  }
});

test('the service: a unit whose program is gone, and one of another version', async () => {
  const signal = new AbortController().signal;
  const root = join(directory, 'service');
  const unit = join(root, 'etc/systemd/system/clawnode.service');
  const package9 = join(root, 'old version', 'bin', 'clawnode.js');
  await mkdir(dirname(unit), { recursive: true });
  await mkdir(dirname(package9), { recursive: true });
  await writeFile(package9, '');
  await writeFile(join(root, 'old version', 'package.json'), '{"version": "0.0.9"}');
  const found = async (program: readonly [string, string]): Promise<Finding | undefined> => {
    await writeFile(unit, unitText({ program, configFile: '/etc/a "b"/$c%.yaml' }));
    return (await inspectService({ root, version: '1.0.0' }, signal))[0];
  };
  const vanished = await found(['/gone/node', package9]);
  assert.deepEqual({ state: vanished?.state, detail: vanished?.detail, fix: vanished?.fix }, { state: 'warning', detail: 'its unit starts /gone/node, which does not exist', fix: 'sudo clawnode install-service --start' });
  assert.equal((await found([process.execPath, package9]))?.detail, `its unit starts clawnode 0.0.9 (${package9}); this is 1.0.0`);
  assert.equal((await installedService(root))?.configFile, '/etc/a "b"/$c%.yaml');
  assert.equal((await inspectService({ root: join(directory, 'nothing'), version: '1.0.0' }, signal))[0]?.need, 'optional');
});

test('rights: a state directory and a token that others may read, and a group that is not there', async () => {
  const stateDir = join(directory, 'state');
  await mkdir(join(directory, 'clawnode'));
  await mkdir(stateDir);
  await chmod(stateDir, 0o755);
  await writeFile(join(directory, 'clawnode', 'mcp-token'), 'hunter2-hunter2-hunter2', { mode: 0o644 });
  const config = configSchema.parse({ socketGroup: 'no-such-group' });
  const found = await inspectRights({ config, stateDir, env: { XDG_CONFIG_HOME: directory } });
  assert.deepEqual(found.map(({ name, state }) => `${name} ${state}`), ['user ok', 'group no-such-group note', 'state warning', 'MCP token warning']);
  assert.match(found[2]?.detail ?? '', isRoot ? /others may enter .* \(mode 755\)/ : /belongs to uid \d+, and must be root's/);
  assert.match(found[3]?.fix ?? '', /chmod 600/);
  assert.doesNotMatch(JSON.stringify(found), /hunter2/);
});

test('where there is no Linux, it says what runs there, and nothing required is missing', async () => {
  for (const system of ['darwin', 'win32'] as const) {
    const findings = await inspectEverything({ system }, new AbortController().signal);
    assert.ok(isFit(findings));
    assert.match(findings[0]?.detail ?? '', new RegExp(`^${system} has no Linux kernel to program: here runs the model`));
    assert.deepEqual([...new Set(findings.map(({ area }) => area))].filter((area) => !['kernel', 'tools', 'hosts'].includes(area)), []);
  }
});

test('without a home, and without an entry for the user where the checkout is open to others, it says all the same', async () => {
  const nobody = ['setpriv', '--reuid=64777', '--regid=64777', '--clear-groups'] as const;
  const open = isRoot && (await runProcess([...nobody, process.execPath, launcher, '--version']).then(({ exitCode }) => exitCode === 0, () => false));
  const argv = ['env', '-u', 'HOME', process.execPath, launcher, 'doctor'] as const;
  const { exitCode, stdout, stderr } = await runProcess(open ? [...nobody, ...argv] : asOrdinaryUser(argv));
  assert.deepEqual({ exitCode, stderr }, { exitCode: 0, stderr: '' });
  assert.match(stdout, /^rights$/m);
});

test('where a program is missing, an ordinary user gets the line that installs it', async () => {
  const { exitCode, stderr } = await runProcess(asOrdinaryUser(['env', `PATH=${directory}`, process.execPath, launcher, 'sandbox', '--', 'true']));
  assert.equal(exitCode, 1);
  assert.match(stderr, /^clawnode: \w+ is not installed \(MISSING_BINARY\)\n {2}On Debian and Ubuntu: `sudo apt-get install -y --no-install-recommends [^\n]*\butil-linux\b[^\n]*`\.\n$/);
});

// That an ordinary user installs nothing is tested above.
if (isRoot) void test('root installs: one refresh of the lists, one installation, no questions', async () => {
  const { exitCode, stderr } = await clawnode(['doctor', '--fix', '--json'], { env });
  const calls = (await readFile(log, 'utf8')).trim().split('\n').filter((line) => !line.includes('--version'));
  assert.equal(calls.length, 2);
  assert.match(calls[0] ?? '', /^noninteractive .* update$/);
  assert.match(calls[1] ?? '', /^noninteractive .* install -y --no-install-recommends .*\butil-linux\b/);
  assert.doesNotMatch(calls[1] ?? '', /docker|wireguard/);
  assert.match(stderr, /^installing .*util-linux/);
  // The apt-get of this test installs nothing, and the second look tells so.
  assert.equal(exitCode, 1);
});

test('on a machine that has everything, its preparation says nothing', async () => {
  const { exitCode, stdout, stderr } = await runProcess([process.execPath, join(checkout, 'scripts', 'prepare-machine.ts'), '--for', 'tests']);
  assert.deepEqual({ exitCode, stdout, stderr }, { exitCode: 0, stdout: '', stderr: '' });
});
