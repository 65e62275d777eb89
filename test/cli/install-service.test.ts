/** What install-service writes, whether systemd takes it without a complaint, and what it refuses to overwrite or to trust. */
import assert from 'node:assert/strict';
import { chmod, cp, mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { run, type Argv } from '../../src/drivers/exec.ts';
import { whyUnsafe } from '../../src/surfaces/cli/service/safe-path.ts';
import { authorOf, unitText, usersText, whyUnspeakable, wordsOf } from '../../src/surfaces/cli/service/unit.ts';
import { clawnode, launcher, runProcess, type Outcome } from './cli-process.ts';
import { asOrdinaryUser } from './sandbox-fixture.ts';

const isRoot = process.getuid?.() === 0;
const directory = await mkdtemp('/var/tmp/claw-service-');
after(() => rm(directory, { recursive: true }));

/** In a checkout of an ordinary user the program lies where that one may change it. */
const install = (root: string, ...args: string[]): Promise<Outcome> => clawnode(['install-service', '--root', root, '--force', ...args]);
const unitIn = (root: string): string => join(root, 'etc/systemd/system/clawnode.service');
const usersIn = (root: string): string => join(root, 'etc/sysusers.d/clawnode.conf');

/** Programs of systemd, which a machine for tests has; where they are missing, the test fails and says so. */
async function systemd(argv: Argv): Promise<{ exitCode: number; said: string }> {
  const { exitCode, stdout, stderr } = await run(argv, { okExitCodes: [0, 1], timeoutMs: 60_000 });
  return { exitCode, said: stdout + stderr };
}

test('systemd takes the unit without a single complaint', async () => {
  const root = join(directory, 'verified');
  assert.equal((await install(root)).exitCode, 0);
  assert.deepEqual(await systemd(['systemd-analyze', 'verify', '--man=no', unitIn(root)]), { exitCode: 0, said: '' });
  // It does see what is wrong.
  const text = (await readFile(unitIn(root), 'utf8')).replace('KillMode=process', 'KillMode=proces').replace('OOMPolicy', 'OOMPolicies');
  await writeFile(join(root, 'wrong.service'), text);
  const { said } = await systemd(['systemd-analyze', 'verify', '--man=no', join(root, 'wrong.service')]);
  assert.match(said, /kill mode/i);
  assert.match(said, /OOMPolicies/);
  const { said: security } = await systemd(['systemd-analyze', 'security', '--offline=true', '--no-pager', unitIn(root)]);
  assert.match(security, /Overall exposure level for clawnode\.service: \d/);
});

test('the unit runs this very program by absolute paths, keeps workloads and sockets alive, and names the configuration', async () => {
  const root = join(directory, 'paths');
  const config = join(directory, 'config one.yaml');
  await writeFile(config, 'socketGroup: operators\ningress: {uid: 64990}\n');
  const { stdout } = await install(root, '--config', config);
  assert.equal(stdout.split('\n')[0], `wrote ${unitIn(root)}`);
  const unit = await readFile(unitIn(root), 'utf8');
  assert.ok(unit.includes(`\nExecStart=${process.execPath} ${launcher} up --config "${config}"\n`), unit);
  for (const line of ['KillMode=process', 'RuntimeDirectoryPreserve=yes', 'OOMPolicy=continue', 'Restart=always', 'NoNewPrivileges=yes']) assert.match(unit, new RegExp(`^${line}$`, 'm'));
  // Whatever gives the unit mounts of its own would be inherited by workloads and hide network namespaces from the next agent.
  assert.doesNotMatch(unit, /^(Protect|Private|ReadOnly|ReadWrite|Inaccessible|Bind|Temporary|Root|Mount|Dynamic|MemoryDeny)\w*=/m);
  assert.match(await readFile(usersIn(root), 'utf8'), /^g operators -\n[^]*^u clawnode-proxy 64990:65534 /m);
  assert.equal((await stat(unitIn(root))).mode & 0o777, 0o644);
});

test('systemd makes the group and gives names to the ids of ingress and ulogd', async () => {
  const root = join(directory, 'users');
  await mkdir(join(root, 'etc'), { recursive: true });
  await writeFile(join(root, 'etc/group'), 'nogroup:x:65534:\n');
  assert.match((await install(root)).stdout, /^group clawnode is there$/m);
  assert.match(await readFile(join(root, 'etc/group'), 'utf8'), /^clawnode:x:\d+:$/m);
  const users = await readFile(join(root, 'etc/passwd'), 'utf8');
  assert.match(users, /^clawnode-proxy:x:64180:65534:.*nologin$/m);
  assert.match(users, /^clawnode-flows:x:64181:65534:.*nologin$/m);
});

test('a second time changes nothing; an update replaces its own; what was edited or is foreign stays unless forced', async () => {
  const root = join(directory, 'again');
  const unforced = (...args: string[]): Promise<Outcome> => clawnode(['uninstall-service', '--root', root, ...args]);
  await install(root);
  const unit = await readFile(unitIn(root), 'utf8');
  assert.equal(authorOf(unit), 'us');
  assert.match((await install(root)).stdout, /^unchanged: .*clawnode\.service\nunchanged: .*clawnode\.conf\n/);
  await writeFile(unitIn(root), unit.replace('RestartSec=1', 'RestartSec=30'));
  const { exitCode, stderr } = await unforced();
  assert.equal(exitCode, 1);
  assert.match(stderr, /clawnode\.service was edited by hand \(CONFLICT\)\n {2}.*drop-in.*--force/);
  assert.match(await readFile(unitIn(root), 'utf8'), /RestartSec=30/);
  assert.match((await install(root)).stdout, /^wrote .*clawnode\.service\nunchanged/);
  assert.equal(await readFile(unitIn(root), 'utf8'), unit);
  assert.deepEqual((await unforced()).stdout.split('\n').slice(0, 2), [`removed ${unitIn(root)}`, `removed ${usersIn(root)}`]);
  assert.equal((await unforced()).stdout, 'there is no service\n');
});

test('whose text a file is', () => {
  const text = unitText({ program: ['/usr/bin/node', '/opt/a b/100%/$x/clawnode.js'], configFile: undefined });
  assert.ok(text.includes('ExecStart=/usr/bin/node "/opt/a b/100%%/$$x/clawnode.js" up\n'), text);
  assert.equal(authorOf(text), 'us');
  assert.equal(authorOf(`${text}# more\n`), 'edited');
  assert.equal(authorOf('[Service]\nExecStart=/bin/true\n'), 'other');
  assert.equal(authorOf(usersText({ group: 'g', proxyUid: 1, flowsUid: 2 })), 'us');
});

test('a path with blanks, percent and dollar signs is started as it is; one that no unit can name is refused', async () => {
  const folder = join(directory, 'a b%c$d$$e');
  await mkdir(folder);
  const program = [join(folder, 'no$de %h'), join(folder, 'claw"node\\.js')] as const;
  await cp('/bin/true', program[0]);
  await writeFile(join(directory, 'paths.service'), unitText({ program, configFile: join(folder, '$HOME %n.yaml') }));
  // It looks whether the program is there, under the name that systemd would start.
  assert.deepEqual(await systemd(['systemd-analyze', 'verify', '--man=no', join(directory, 'paths.service')]), { exitCode: 0, said: '' });
  const line = /^ExecStart=(.*)$/m.exec(await readFile(join(directory, 'paths.service'), 'utf8'))?.[1] ?? '';
  assert.deepEqual(wordsOf(line), [...program, 'up', '--config', join(folder, '$HOME %n.yaml')]);
  await rm(program[0]);
  assert.match((await systemd(['systemd-analyze', 'verify', '--man=no', join(directory, 'paths.service')])).said, /is not executable/);

  assert.match(whyUnspeakable('/opt/a"b/node', { isProgram: true }) ?? '', /quotes or a backslash/);
  assert.equal(whyUnspeakable('/opt/a"b/clawnode.js', { isProgram: false }), undefined);
  const config = join(folder, 'two\nlines.yaml');
  await writeFile(config, '{}\n');
  const { exitCode, stderr } = await clawnode(['install-service', '--print', '--config', config]);
  assert.equal(exitCode, 1);
  assert.match(stderr, /holds a control character \(NOT_SUPPORTED\)/);
});

test('a root that is empty or no directory is refused, and a group that is no name as well', async () => {
  for (const command of ['install-service', 'uninstall-service']) {
    const { exitCode, stderr } = await clawnode([command, '--root', ''], { cwd: directory });
    assert.equal(exitCode, 2);
    assert.match(stderr, /--root names no directory/);
  }
  await assert.rejects(stat(join(directory, 'etc')), { code: 'ENOENT' });
  const file = join(directory, 'file');
  await writeFile(file, '');
  assert.match((await install(file)).stderr, /file is no directory \(INVALID_ARGUMENT at --root\)/);
  const config = join(directory, 'group.yaml');
  await writeFile(config, 'socketGroup: "a b"\n');
  assert.match((await install(join(directory, 'group'), '--config', config)).stderr, /socketGroup: is no name of a group \(CONFIG_INVALID at socketGroup\)/);
});

test('what an ordinary user asks for, what can not be, and a wrong configuration are refused with what to do, and nothing is written', async () => {
  const root = join(directory, 'refused');
  const wrong = join(directory, 'wrong.yaml');
  await writeFile(wrong, 'ingres: {}\n');
  const config = await install(root, '--config', wrong);
  assert.match(config.stderr, /ingres: there is no such field \(CONFIG_INVALID at ingres\)/);
  assert.match((await install(root, '--config', join(directory, 'none.yaml'))).stderr, /none\.yaml can not be read.*\(CONFIG_INVALID\)/);
  await assert.rejects(stat(root), { code: 'ENOENT' });
  const user = await runProcess(asOrdinaryUser([process.execPath, launcher, 'install-service']));
  assert.match(user.stderr, /only root can change the services of this machine \(PERMISSION_DENIED\)\n {2}Use sudo/);
  assert.equal((await clawnode(['install-service', '--root', root, '--start'])).exitCode, 2);
  const printed = await clawnode(['install-service', '--print']);
  assert.match(printed.stdout, /^# Written by `clawnode install-service`[^]*^\[Install\]\nWantedBy=multi-user\.target\n$/m);
});

if (isRoot) void test('a program that others can change, or that will vanish, is no program for a service', async () => {
  const folder = join('/opt', `claw-test-${process.pid}`);
  await mkdir(join(folder, '_npx', 'x'), { recursive: true });
  try {
    const file = join(folder, 'program');
    await cp('/bin/true', file);
    assert.equal(await whyUnsafe(file), undefined);
    await chmod(file, 0o757);
    assert.match((await whyUnsafe(file)) ?? '', /everybody may write to \/opt\/claw-test-\d+\/program/);
    await chmod(file, 0o755);
    await symlink(file, join(directory, 'link'));
    assert.equal(await whyUnsafe(join(directory, 'link')), undefined);
    await run(['chown', '65534', folder]);
    assert.match((await whyUnsafe(file)) ?? '', /\/opt\/claw-test-\d+ belongs to uid 65534/);
    await run(['chown', '0:65534', folder]);
    await chmod(folder, 0o775);
    assert.match((await whyUnsafe(file)) ?? '', /group 65534 may write to \/opt\/claw-test-\d+$/);
    await cp('/bin/true', join(folder, '_npx', 'x', 'p'));
    assert.match((await whyUnsafe(join(folder, '_npx', 'x', 'p'))) ?? '', /cache of npx/);
    assert.match((await whyUnsafe(directory)) ?? '', /lies in \/var\/tmp, which is emptied/);
    const refused = await clawnode(['install-service', '--root', join(directory, 'unsafe'), '--config', await configIn(folder)]);
    assert.match(refused.stderr, /must not depend on .*config\.yaml: .*group 65534 may write.*\(NOT_ALLOWED\)\n {2}.*--force/);
  } finally {
    await rm(folder, { recursive: true });
  }
});

async function configIn(folder: string): Promise<string> {
  const path = join(folder, 'config.yaml');
  await writeFile(path, '{}\n');
  return path;
}
