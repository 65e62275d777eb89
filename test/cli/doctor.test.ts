/** What is said and installed on machines that lack something, played with a PATH of few programs and an apt-get that only notes. */
import assert from 'node:assert/strict';
import { access, chmod, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { after, test } from 'node:test';
import { aptCommand, missingPackages } from '../../src/surfaces/cli/apt.ts';
import type { Finding } from '../../src/surfaces/cli/doctor/finding.ts';
import { clawnode, launcher, runProcess } from './cli-process.ts';
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
  assert.match(stdout, /^missing +unshare +required/m);
  assert.match(stdout, /required and missing:\n {2}(sudo )?apt-get install -y --no-install-recommends [^\n]*util-linux/);
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
  const { stdout } = await clawnode(['doctor']);
  assert.match(stdout, /^ok +iptables /m);
  assert.match(stdout, /^ok +ulogd /m);
  assert.doesNotMatch(stdout, /docker|wireguard|wg|51820/i);
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
