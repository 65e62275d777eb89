/** The iptables driver on the real kernel, with both backends. */
import { strict as assert } from 'node:assert';
import { readFileSync, readdirSync } from 'node:fs';
import { before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { IptablesState, Jump, Rules } from '../../src/compile/kernel-state.ts';
import { run } from '../../src/drivers/exec.ts';
import { chooseBackend } from '../../src/drivers/iptables-backend.ts';
import { listChains, saveTables, type IptablesBackend } from '../../src/drivers/iptables-save.ts';
import { openIptables, type IptablesDriver } from '../../src/drivers/iptables.ts';
import { enterNamespace, stdoutOf } from './namespace.ts';

const NOTHING: IptablesState = { raw: table({}), filter: table({}), nat: table({}) };

const FOREIGN = `*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
-A FORWARD -o docker0 -j DOCKER
-A DOCKER -s 172.17.0.0/16 -m comment --comment "not ours, \\"-j CLAW-X\\"" -j ACCEPT
COMMIT
*nat
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A OUTPUT -p tcp -m tcp --dport 1 -j REDIRECT --to-ports 2
COMMIT
*mangle
-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
COMMIT
`;

/** Rules of every shape that compile steps use, in canonical form. */
const FORMS: Readonly<Record<'raw' | 'filter' | 'nat', Rules>> = {
  raw: ['-s 10.200.1.2/32 -m mac --mac-source 02:c1:0a:c8:01:02 -j RETURN', '-i clawvabc -j CLAW-OTHER', '-j DROP'],
  filter: [
    '-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    '-p tcp -m conntrack --ctstate NEW -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j REJECT --reject-with tcp-reset',
    '-i clawv+ -j CLAW-OTHER',
    '! -i lo -m conntrack --ctstate NEW --ctorigdst 10.201.0.0/16 -j DROP',
    '-d 10.201.0.0/16 -p tcp -j REJECT --reject-with tcp-reset',
    '-d 10.201.0.0/16 -j REJECT --reject-with icmp-port-unreachable',
    '-j ACCEPT',
  ],
  nat: [
    '-d 10.201.0.0/20 -j CLAW-OTHER',
    '-p tcp -m tcp --dport 80 -m comment --comment "default/web http" -m statistic --mode random --probability 0.33333333349 -j DNAT --to-destination 10.200.1.2:8080',
    '-p udp -m udp --dport 53 -m comment --comment one -j DNAT --to-destination 10.200.1.2:53',
  ],
};
const MASQUERADE = ['-s 10.200.1.0/24 ! -d 10.200.0.0/16 ! -o claw0 -j MASQUERADE', '-m set --match-set CLAW-hairpin src,dst,dst -j MASQUERADE'];

before(async () => {
  await enterNamespace();
  await stdoutOf('ipset', 'create', 'CLAW-hairpin', 'hash:ip,port,ip');
});

for (const backend of ['nft', 'legacy'] as const) {
  describe(`iptables-${backend}`, () => {
    before(async () => {
      await restore(backend, FOREIGN);
    });

    test('rules in canonical form come back as they were written, so that a resync writes nothing', async () => {
      await using opened = await open(backend);
      const { driver, foreign } = opened;
      const desired = {
        raw: table({ 'CLAW-RAW': FORMS.raw, 'CLAW-OTHER': [] }, [jump('PREROUTING', 'CLAW-RAW', 'first')]),
        filter: table({ 'CLAW-NETPOL': FORMS.filter, 'CLAW-OTHER': [''] }, [jump('FORWARD', 'CLAW-NETPOL', 'first'), jump('INPUT', 'CLAW-OTHER', 'last')]),
        nat: table({ 'CLAW-SERVICES': FORMS.nat, 'CLAW-MASQUERADE': MASQUERADE, 'CLAW-OTHER': [] }, [
          jump('PREROUTING', 'CLAW-SERVICES', 'first'),
          jump('OUTPUT', 'CLAW-SERVICES', 'first'),
          jump('POSTROUTING', 'CLAW-MASQUERADE', 'last'),
        ]),
      };
      assert.ok((await driver.apply(desired)).written > 0);
      assert.equal((await driver.apply(desired)).written, 0);
      driver.resync();
      assert.equal((await driver.apply(desired)).written, 0);
      assert.equal(await foreignRules(backend), foreign);
      assert.equal(await firstRule(backend, 'filter', 'FORWARD'), '-A FORWARD -m comment --comment clawnode -j CLAW-NETPOL');
    });

    test('a bad line leaves its table untouched, is named, and the next apply goes on', async () => {
      await using opened = await open(backend);
      const { driver } = opened;
      const good = { ...NOTHING, nat: table({ 'CLAW-A': ['-p tcp -j RETURN'] }) };
      await driver.apply(good);
      const bad = { ...NOTHING, filter: table({ 'CLAW-F': ['-j RETURN'] }), nat: table({ 'CLAW-A': ['-p tcp -j RETURN', '-p tcp -j CLAW-MISSING'], 'CLAW-B': [] }) };
      await assert.rejects(driver.apply(bad), { code: 'KERNEL_REFUSED', message: /CLAW-MISSING/ });
      assert.deepEqual(await ownLines(backend, 'nat'), [':CLAW-A - [0:0]', '-A CLAW-A -p tcp -j RETURN']);
      assert.deepEqual(await ownLines(backend, 'filter'), [':CLAW-F - [0:0]', '-A CLAW-F -j RETURN'], 'an earlier table of the payload is in force');
      await driver.apply(good);
      assert.deepEqual(await ownLines(backend, 'filter'), []);
      assert.equal((await driver.apply(good)).written, 0);
    });

    test('a jump that others moved or deleted, and a chain that they flushed, are put right', async () => {
      await using opened = await open(backend);
      const { driver, foreign } = opened;
      const desired = { ...NOTHING, filter: table({ 'CLAW-NETPOL': ['-i clawv+ -j DROP'] }, [jump('FORWARD', 'CLAW-NETPOL', 'first')]) };
      await driver.apply(desired);
      const ours = await ownLines(backend, 'filter');
      const rule = '-m comment --comment clawnode -j CLAW-NETPOL';
      for (const damage of [`-D FORWARD ${rule}`, `-D FORWARD ${rule}\n-A FORWARD ${rule}`, `-A FORWARD ${rule}`, '-F CLAW-NETPOL', '-F FORWARD\n-A FORWARD -o docker0 -j DOCKER']) {
        await restore(backend, `*filter\n${damage}\nCOMMIT\n`);
        driver.resync();
        assert.ok((await driver.apply(desired)).written > 0, damage);
        assert.deepEqual(await ownLines(backend, 'filter'), ours, damage);
        assert.equal(await firstRule(backend, 'filter', 'FORWARD'), `-A FORWARD ${rule}`);
        assert.equal(await foreignRules(backend), foreign);
      }
    });

    test('the restore process is killed between payloads: the next apply starts another', async () => {
      await using opened = await open(backend);
      const { driver } = opened;
      for (let n = 0; n < 5; n += 1) {
        const desired = { ...NOTHING, nat: table({ 'CLAW-A': [`-p tcp -m tcp --dport ${n + 1} -j RETURN`] }) };
        await driver.apply(desired);
        assert.deepEqual(await ownLines(backend, 'nat'), [':CLAW-A - [0:0]', `-A CLAW-A -p tcp -m tcp --dport ${n + 1} -j RETURN`]);
        const pids = restoreProcesses(backend);
        assert.equal(pids.length, 1);
        for (const pid of pids) process.kill(pid, 'SIGKILL');
        // Long enough for the driver to be told; a payload written before that would fail, which the next test is about.
        await sleep(100);
      }
    });

    test('the restore process is killed while it writes: the failure is told, and the next apply reaches the desired state', async () => {
      await using opened = await open(backend);
      const { driver, foreign } = opened;
      let failures = 0;
      for (let n = 1; n <= 8; n += 1) {
        const desired = { ...NOTHING, filter: large(n), nat: large(n) };
        const applied = driver.apply(desired).then(
          () => 0,
          () => 1,
        );
        // At a different moment each time.
        await sleep(n * 6);
        for (const pid of restoreProcesses(backend)) process.kill(pid, 'SIGKILL');
        failures += await applied;
        await driver.apply(desired);
        driver.resync();
        assert.equal((await driver.apply(desired)).written, 0);
      }
      assert.ok(failures > 0, 'no kill ever hit a payload');
      assert.equal(await foreignRules(backend), foreign);
    });

    test('thousands of rules fit, also in a user namespace, whose netlink socket takes 200 kB at a time', async () => {
      await using opened = await open(backend);
      const { driver } = opened;
      const desired = { ...NOTHING, nat: large(1000) };
      await driver.apply(desired);
      driver.resync();
      assert.equal((await driver.apply(desired)).written, 0);
      await driver.apply(NOTHING);
      assert.deepEqual(await ownLines(backend, 'nat'), []);
    });

    test('between two commits no lock is held, and others who write at the same time lose nothing', async () => {
      await using opened = await open(backend);
      const { driver } = opened;
      await driver.apply({ ...NOTHING, nat: large(1) });
      // iptables-legacy replaces the whole table: who does not wait for its lock would undo what others just wrote.
      await run(['flock', '--nonblock', '/run/xtables.lock', 'true']);
      const foreign = run(['sh', '-ec', `for n in $(seq 60); do iptables-${backend} --wait -t nat -A INPUT -p tcp -m tcp --dport $n -j ACCEPT; done`], { timeoutMs: 60_000 });
      for (let n = 2; n < 30; n += 1) {
        const desired = { ...NOTHING, nat: large(n) };
        await driver.apply(desired).catch(() => driver.apply(desired));
      }
      await foreign;
      await run(['flock', '--nonblock', '/run/xtables.lock', 'true']);
      driver.resync();
      assert.equal((await driver.apply({ ...NOTHING, nat: large(29) })).written, 0);
      const ports = (await stdoutOf(`iptables-${backend}-save`, '-t', 'nat')).split('\n').flatMap((line) => /^-A INPUT .*--dport (\d+)/.exec(line)?.[1] ?? []);
      assert.deepEqual(ports, Array.from({ length: 60 }, (_, index) => String(index + 1)));
      await restore(backend, '*nat\n-F INPUT\nCOMMIT\n');
    });

    test('removeAll leaves the foreign rules, also where we never write, and needs no state', async () => {
      await using opened = await open(backend);
      const { driver, foreign } = opened;
      await driver.apply({ raw: large(3), filter: large(3), nat: large(3) });
      await restore(backend, '*mangle\n:CLAW-M - [0:0]\n:CLAW-N - [0:0]\n-A CLAW-M -j CLAW-N\n-A FORWARD -j CLAW-M\nCOMMIT\n');
      const fresh = openIptables({ backend });
      assert.ok((await fresh.removeAll()).written > 0);
      assert.equal((await fresh.removeAll()).written, 0);
      await fresh.close();
      assert.doesNotMatch(await saveTables(backend), /^:CLAW-|^-A CLAW-|-j CLAW-\S+$/m);
      assert.equal(await foreignRules(backend), foreign);
    });

    test('some chains of a large table are listed as they are, and those that do not exist are left out', async () => {
      await using opened = await open(backend);
      await opened.driver.apply({ ...NOTHING, nat: large(7) });
      const listed = await listChains(backend, { table: 'nat', chains: ['OUTPUT', 'CLAW-TOP', 'CLAW-S-9'] });
      assert.deepEqual([...listed.keys()], ['OUTPUT', 'CLAW-TOP', 'CLAW-S-9']);
      assert.deepEqual(listed.get('CLAW-TOP'), large(7).chains.get('CLAW-TOP'));
      assert.deepEqual(listed.get('CLAW-S-9'), large(7).chains.get('CLAW-S-9'));
      assert.deepEqual(listed.get('OUTPUT'), ['-m comment --comment clawnode -j CLAW-TOP', '-p tcp -m tcp --dport 1 -j REDIRECT --to-ports 2']);
      const untouched = await saveTables(backend);
      const some = await listChains(backend, { table: 'nat', chains: ['CLAW-S-1', 'CLAW-MISSING', 'PREROUTING'] });
      assert.deepEqual([...some].map(([name, rules]) => [name, rules.length]), [['CLAW-S-1', 4], ['PREROUTING', 0]]);
      assert.equal((await saveTables(backend)).replaceAll(/^#.*/gm, ''), untouched.replaceAll(/^#.*/gm, ''), 'looking wrote something');
    });

    test('the backend is known by our chains', async () => {
      await using opened = await open(backend);
      await opened.driver.apply({ ...NOTHING, nat: table({ 'CLAW-A': [] }) });
      assert.equal((await chooseBackend({ configured: 'auto', sandbox: false })).backend, backend);
    });
  });
}

interface Opened extends AsyncDisposable {
  readonly driver: IptablesDriver;
  readonly foreign: string;
}

async function open(backend: IptablesBackend): Promise<Opened> {
  const driver = openIptables({ backend });
  return {
    driver,
    foreign: await foreignRules(backend),
    [Symbol.asyncDispose]: async () => {
      await driver.removeAll();
      await driver.close();
    },
  };
}

function table(chains: Readonly<Record<string, Rules>>, jumps: readonly Jump[] = []) {
  return { chains: new Map(Object.entries(chains)), jumps };
}

function jump(chain: string, target: string, place: Jump['place']): Jump {
  return { chain, rule: `-m comment --comment clawnode -j ${target}`, place };
}

/** 300 chains of four rules, all of them other ones for another `seed`. */
function large(seed: number) {
  const rules = (n: number): string[] => [1, 2, 3, 4].map((k) => `-d 10.201.${seed % 250}.${n % 250}/32 -p tcp -m tcp --dport ${n + k} -m comment --comment "rule ${n} ${k} of ${seed}" -j RETURN`);
  const leaves = Array.from({ length: 300 }, (_, n): [string, string[]] => [`CLAW-S-${n}`, rules(n)]);
  return table({ 'CLAW-TOP': leaves.map(([name]) => `-d 10.201.${seed % 250}.0/24 -j ${name}`), ...Object.fromEntries(leaves) }, [jump('OUTPUT', 'CLAW-TOP', 'first')]);
}

async function restore(backend: IptablesBackend, input: string): Promise<void> {
  await run([`iptables-${backend}-restore`, '--noflush', '--wait'], { input });
}

async function firstRule(backend: IptablesBackend, name: string, chain: string): Promise<string | undefined> {
  return (await stdoutOf(`iptables-${backend}-save`, '-t', name)).split('\n').find((line) => line.startsWith(`-A ${chain} `));
}

/** Chains of ours and their rules. */
async function ownLines(backend: IptablesBackend, name: string): Promise<string[]> {
  return (await stdoutOf(`iptables-${backend}-save`, '-t', name)).split('\n').filter((line) => /^(?::|-A )CLAW-/.test(line));
}

/** Everything that is not ours, policies and order included. Tables that hold nothing of others' may come into being. */
async function foreignRules(backend: IptablesBackend): Promise<string> {
  const lines = (await saveTables(backend)).split('\n').filter((line) => !line.startsWith('#') && !/^(?::|-A )CLAW-| -j CLAW-\S+$/.test(line));
  return lines
    .map((line) => line.replace(/\[\d+:\d+\]/, ''))
    .join('\n')
    .replaceAll(/\*raw\n(?::\w+ ACCEPT \n)+COMMIT\n/g, '');
}

function restoreProcesses(backend: IptablesBackend): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && commandLine(name).startsWith(`iptables-${backend}-restore\0`))
    .map(Number);
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    // It ended meanwhile.
    return '';
  }
}
