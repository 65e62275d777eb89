/** What a workload may see and do, asked from inside one on the real kernel. */
import { strict as assert } from 'node:assert';
import { readdirSync, readlinkSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { constantFrom, dictionary, oneof, sample, string, stringMatching } from 'fast-check';
import { run } from '../../src/drivers/exec.ts';
import { openFixture, outputOf, signal, until, untilObserved } from '../runtime/process-fixture.ts';
import { enterNamespace, stdoutOf } from './namespace.ts';

await enterNamespace();

const KNOWN_NAMES = [
  'PATH', 'IFS', 'ENV', 'BASH_ENV', 'PS1', 'PS4', 'HOME', 'PWD', 'OLDPWD', 'OPTIND', 'OPTARG', 'PPID', '_', 'LINENO', 'SHLVL', 'UID', 'EUID', 'SHELLOPTS', 'CDPATH',
  'LD_PRELOAD', 'LD_DEBUG_OUTPUT', 'POSIXLY_CORRECT', 'LC_ALL', 'LANG', 'TMPDIR', 'env', 'nice', 'setsid', 'child', 'pending', 'code', 'line', 'pair', 'count',
  'search', 'environment', 'found', 'folder', 'user', 'index', 'stage', 'claw_1', 'claw_2', '__proto',
] as const;
const value = oneof(string({ unit: 'binary' }), string({ unit: constantFrom('\n', '=', '$', '`', '"', "'", '\\', ' ', '{', '}', 'a', '\u0081', '\u{1f600}') })).map((text) => text.replaceAll('\0', ''));

test('no capability is left and none can come back', async (t) => {
  const fixture = await openFixture(t);
  const lines = await outputOf(fixture, 'c0000001', 'grep -E "^(Cap|NoNewPrivs)" /proc/self/status');
  const none = '0000000000000000';
  assert.deepEqual(lines, [`CapInh:\t${none}`, `CapPrm:\t${none}`, `CapEff:\t${none}`, `CapBnd:\t${none}`, `CapAmb:\t${none}`, 'NoNewPrivs:\t1']);
});

test('hidden directories look empty and cannot be uncovered, nor from a user namespace of its own', async (t) => {
  const fixture = await openFixture(t);
  const { state } = fixture;
  const script = `
    ls -A ${state} /run/claw-socket /run/netns
    umount ${state} 2>/dev/null && echo uncovered
    mount -t tmpfs tmpfs /mnt 2>/dev/null && echo mounted
    unshare --user --mount sh -c '
      echo inside; umount ${state} && echo uncovered; umount --lazy /run && echo uncovered
      ls -A ${state}; mount --bind / /mnt && ls -A /mnt${state}' 2>/dev/null
    touch ${state}/file 2>/dev/null && echo written`;
  const lines = (await outputOf(fixture, 'c0000002', script)).filter((line) => line !== '');
  assert.deepEqual(lines, ['/run/claw-socket:', '/run/netns:', `${state}:`, 'inside']);
  assert.deepEqual((await readdir(state)).toSorted(), ['secret', 'workloads']);
});

test('system directories are read-only, with what is mounted below them and whatever its flags; other places are not', async (t) => {
  const fixture = await openFixture(t);
  // As in a sandbox, whose resolver is mounted over the machine's; and places that are no plain directories.
  await writeFile('/run/resolv.conf', 'nameserver 127.0.0.1\n');
  await run(['mount', '--bind', '/run/resolv.conf', '/etc/resolv.conf']);
  await run(['mount', '-t', 'tmpfs', '-o', 'nosuid,nodev,noexec', 'tmpfs', '/srv']);
  await mkdir('/srv/a b\\c');
  await run(['mount', '-t', 'tmpfs', '-o', 'nodev,noatime', 'tmpfs', '/srv/a b\\c']);
  await mkdir('/srv/covered/below', { recursive: true });
  await run(['mount', '-t', 'tmpfs', 'tmpfs', '/srv/covered/below']);
  await run(['mount', '-t', 'tmpfs', 'tmpfs', '/srv/covered']);
  t.after(async () => {
    for (const path of ['/srv/covered', '/srv/covered/below', '/srv/a b\\c', '/srv', '/etc/resolv.conf']) await run(['umount', path]);
  });
  const script = `
    for folder in /etc /usr/bin /bin /lib /boot /opt /srv '/srv/a b\\c' /srv/covered /var/lib /var/spool /var/cache; do
      touch "$folder/claw-test" 2>&1 | grep -q 'Read-only file system' || echo "$folder can be written to"
    done
    (echo x >>/etc/resolv.conf) 2>/dev/null && echo the resolver can be written to
    mount -o remount,bind,rw /etc 2>/dev/null && echo remounted
    unshare --user --map-root-user --mount sh -c 'mount -o remount,bind,rw /etc; touch /etc/claw-test' 2>/dev/null && echo remounted
    cat /etc/resolv.conf
    for folder in /tmp /var/tmp /run "$0"; do touch "$folder/$$-claw-test" && rm "$folder/$$-claw-test" && echo "$folder"; done`;
  const home = await mkdtemp(join(homedir(), 'claw-test-'));
  t.after(() => rm(home, { recursive: true }));
  await fixture.runtime.start(await fixture.spec('c3000001', ['sh', '-c', script, home]), signal);
  await untilObserved(fixture.runtime, 'c3000001', ({ state }) => state === 'exited');
  assert.deepEqual(await fixture.runtime.logs('c3000001', 99), ['nameserver 127.0.0.1', '/tmp', '/var/tmp', '/run', home]);
});

test('the flags that a mount must keep in a user namespace are kept', async (t) => {
  await run(['mount', '-t', 'tmpfs', '-o', 'nosuid,nodev,noexec', 'tmpfs', '/opt']);
  t.after(() => run(['umount', '/opt']));
  // Mounts that a user namespace inherits are locked, as all are in a sandbox.
  const confine = fileURLToPath(new URL('../../src/runtime/confine.sh', import.meta.url));
  const inner = 'exec 3</dev/null 5>/dev/null 9>/dev/null; exec unshare --mount --pid --ipc --fork --mount-proc sh "$0" - freeze /opt -- sh -c "grep \' /opt \' /proc/self/mountinfo"';
  const lines = (await stdoutOf('unshare', '--user', '--map-root-user', '--net', '--mount', '--pid', '--fork', '--mount-proc', 'sh', '-c', inner, confine)).trim().split('\n');
  assert.match(lines.at(-1) ?? '', / \/opt ro,nosuid,nodev,noexec/);
});

test('the directories of other sandboxes look empty, those that were there', async (t) => {
  const beside = await mkdtemp('/run/temporary-');
  for (const name of ['clawnode-sandbox-own', 'clawnode-sandbox-other']) {
    await mkdir(join(beside, name));
    await writeFile(join(beside, name, 'agent.sock'), '');
  }
  const fixture = await openFixture(t, { hide: [join(beside, 'clawnode-sandbox-own')] });
  assert.deepEqual(await outputOf(fixture, 'c4000001', `ls -A ${beside}/*; touch ${beside}/file && rm ${beside}/file && echo written`), [
    `${beside}/clawnode-sandbox-other:`,
    '',
    `${beside}/clawnode-sandbox-own:`,
    'written',
  ]);
});

test('it sees its own processes only, and pid 1 leads nowhere', async (t) => {
  const fixture = await openFixture(t);
  const script = 'for p in /proc/[0-9]*; do echo "${p#/proc/}"; done | wc -l; readlink /proc/self/ns/net; nsenter --target 1 --net true 2>/dev/null || echo refused';
  const lines = await outputOf(fixture, 'c0000003', script);
  // PID 1, the shell, its subshell and the counting program.
  assert.ok(Number(lines[0]) <= 5, lines[0]);
  const { stdout } = await run(['ip', 'netns', 'exec', 'claw-c0000003', 'readlink', '/proc/self/ns/net']);
  assert.deepEqual(lines.slice(1), [stdout.trim(), 'refused']);
});

test('its sysfs shows its own network, its /dev no device of the machine, its /proc/sys cannot be written', async (t) => {
  const fixture = await openFixture(t);
  await run(['ip', 'link', 'add', 'clawtest0', 'type', 'veth', 'peer', 'name', 'clawtest2']);
  t.after(() => run(['ip', 'link', 'delete', 'clawtest0']));
  const script = `
    ls /sys/class/net
    stat --format='%F %n' /dev/* | grep special | cut -d/ -f3 | sort | tr '\\n' ' '; echo
    (echo 0 >/proc/sys/net/ipv6/conf/default/disable_ipv6) 2>/dev/null || echo refused
    (echo h >/proc/sysrq-trigger) 2>/dev/null || echo refused
    echo x >/dev/null && head -c 4 /dev/urandom | wc -c; touch /dev/shm/file && echo shm`;
  assert.deepEqual(await outputOf(fixture, 'c0000004', script), ['lo', 'full null random tty urandom zero ', 'refused', 'refused', '4', 'shm']);
});

test('its environment is PATH, HOME, LANG and what was given, byte for byte; no descriptor of ours is open', async (t) => {
  process.env['CLAWNODE_SOCKET'] = '/run/claw-socket/agent.sock';
  t.after(() => delete process.env['CLAWNODE_SOCKET']);
  const fixture = await openFixture(t);
  const env = { GREETING: `a "b" $c \`d\` 'e' \\n`, LINES_: 'one\n=two\n\nfour\n', EMPTY: '', PATH: '/nowhere:/usr/bin:/bin' };
  // The shell adds PWD itself.
  const script = 'env -0 | sort -z | tr "\\0\\n" "\\n~"; for f in /proc/$$/fd/*; do readlink "$f"; done | tr "\\n" " "; echo; pwd; cat';
  const lines = await outputOf(fixture, 'c0000005', script, { env });
  const given = lines.slice(0, -2).filter((line) => !line.startsWith('PWD='));
  assert.deepEqual(given, ['EMPTY=', `GREETING=a "b" $c \`d\` 'e' \\n`, 'HOME=/', 'LANG=C.UTF-8', 'LINES_=one~=two~~four~', 'PATH=/nowhere:/usr/bin:/bin']);
  // What the test itself was given open for its children is not ours to judge.
  const inherited = new Set(readdirSync('/proc/self/fd').map((fd) => linkOf(`/proc/self/fd/${fd}`)));
  const open = (lines.at(-2) ?? '').trim().replaceAll(' (deleted)', '').split(' ').filter((path) => path === '/dev/null' || !inherited.has(path));
  assert.deepEqual(open, ['/dev/null', `${fixture.directory}/c0000005/pipe`, `${fixture.directory}/c0000005/pipe`]);
  assert.equal(lines.at(-1), '/');
});

test('variables of any name arrive byte for byte, those that shells, loaders and our own scripts know too', async (t) => {
  const { runtime, spec } = await openFixture(t);
  const given = sample(dictionary(oneof(constantFrom(...KNOWN_NAMES), stringMatching(/^[A-Za-z_]\w{0,20}$/)), value, { maxKeys: 30 }), 20);
  const hostile = Object.fromEntries(KNOWN_NAMES.map((name) => [name, `/nowhere $(exit) \`'"\\\n=${name}\n`]));
  for (const [index, env] of [{}, hostile, ...given].entries()) {
    const wanted = await spec(`c1${String(index).padStart(6, '0')}`, ['/bin/cp', '/proc/self/environ', `/run/environ-${index}`], { env });
    await runtime.start(wanted, signal);
    const { exitCode } = await untilObserved(runtime, wanted.id, ({ state }) => state === 'exited');
    assert.equal(exitCode, 0, (await runtime.logs(wanted.id, 9)).join('\n'));
    const pairs = (await readFile(`/run/environ-${index}`, 'utf8')).split('\0').slice(0, -1);
    const expected = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/', LANG: 'C.UTF-8', ...env };
    assert.deepEqual(pairs.toSorted(), Object.entries(expected).map(([name, text]) => `${name}=${text}`).toSorted());
    await runtime.stop(wanted.id, { graceMs: 5000 }, signal);
  }
});

test('a program with = in its name runs, in the environment that was given', async (t) => {
  const { runtime, spec } = await openFixture(t);
  await writeFile('/run/a=b', '#!/bin/sh\nprintf "%s\\n" "$GIVEN" "$@"\n', { mode: 0o755 });
  const wanted = await spec('c2000001', ['/run/a=b', '-n', 'c=d'], { env: { GIVEN: 'yes' } });
  await runtime.start(wanted, signal);
  await untilObserved(runtime, wanted.id, ({ state }) => state === 'exited');
  assert.deepEqual(await runtime.logs(wanted.id, 9), ['yes', '-n', 'c=d']);
});

test('arguments reach the command as they are', async (t) => {
  const fixture = await openFixture(t);
  const spec = await fixture.spec('c0000006', ['printf', '%s|', '--', 'a b', '$(id)', '"', "'", '*', '', 'cover', '/']);
  await fixture.runtime.start(spec, signal);
  await untilObserved(fixture.runtime, spec.id, ({ state }) => state === 'exited');
  assert.deepEqual(fixture.runtime.observe().get(spec.id)?.exitCode, 0);
  assert.deepEqual(await fixture.runtime.logs(spec.id, 5), [`--|a b|$(id)|"|'|*||cover|/|`]);
});

test('another workload does not keep a deleted network namespace alive', async (t) => {
  const fixture = await openFixture(t);
  await run(['ip', 'netns', 'add', 'other']);
  await run(['ip', 'link', 'add', 'clawtest1', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', 'other']);
  await fixture.runtime.start(await fixture.spec('c0000007', ['sleep', '600']), signal);
  await run(['ip', 'netns', 'delete', 'other']);
  // Its last reference gone, the kernel removes the namespace, and with it both ends of the pair, a moment later.
  await until(async () => ((await stdoutOf('ip', '-brief', 'link')).includes('clawtest1') ? undefined : true));
});

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    // The descriptor the listing itself used is closed again.
    return '';
  }
}
