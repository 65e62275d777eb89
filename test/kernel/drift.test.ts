/** What others break in the kernel is repaired within 5 s and told, with both backends; what we write ourselves is no drift. */
import { strict as assert } from 'node:assert';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { openIptables } from '../../src/drivers/iptables.ts';
import { ClawError } from '../../src/errors.ts';
import { watchRules } from '../../src/reconcile/drift-rules.ts';
import { childrenOf, commandLine, cpuMs, damageAndRepair, openWatched, ownState, type Watched } from './drift-fixture.ts';
import { enterNamespace } from './namespace.ts';
import { run, start } from '../../src/drivers/exec.ts';

const REPAIR_MS = 5_000;
const FOREIGN = '*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -i docker0 -j ACCEPT\nCOMMIT\n*nat\n:POSTROUTING ACCEPT [0:0]\nCOMMIT\n*raw\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n';

interface Damage {
  readonly name: string;
  readonly commands: string;
  /** What `network.status` says of it. */
  readonly told: RegExp;
}

/** Besides those that agent-drift.test.ts makes through the whole agent. */
function damagesOf(iptables: string): Damage[] {
  const jump = 'FORWARD -m comment --comment clawnode -j CLAW-NETPOL';
  return [
    { name: 'jump moved to the end', commands: `${iptables} -I FORWARD 2 -j ACCEPT; ${iptables} -D ${jump}; ${iptables} -A ${jump}`, told: /filter FORWARD: jump to CLAW-NETPOL was/ },
    {
      name: 'dockerd restarted',
      commands: `${iptables} -N DOCKER-USER || true; ${iptables} -I FORWARD -i docker0 ! -o docker0 -j ACCEPT; ${iptables} -I FORWARD -j DOCKER-USER`,
      told: /filter FORWARD: jump to CLAW-NETPOL was not in its place at the front/,
    },
    { name: 'rule of an inner chain deleted', commands: `${iptables} -D CLAW-EGRESS 1`, told: /filter: chain CLAW-EGRESS had lost rules/ },
    { name: 'rule put into a chain of ours', commands: `${iptables} -I CLAW-NETPOL -j ACCEPT`, told: /filter: chain CLAW-NETPOL held other rules/ },
    { name: 'chain added that looks like ours', commands: `${iptables} -t raw -N CLAW-OTHER`, told: /raw: chain CLAW-OTHER was none of ours/ },
    {
      name: 'chain deleted',
      commands: `${iptables} -t raw -F PREROUTING; ${iptables} -t raw -F CLAW-SPOOF; ${iptables} -t raw -X CLAW-SPOOF`,
      told: /raw PREROUTING: jump to CLAW-SPOOF was missing/,
    },
    { name: 'restored without --noflush', commands: `printf '${FOREIGN.replaceAll('\n', '\\n')}' | ${iptables}-restore`, told: /all chains and jumps of ours were missing/ },
    { name: 'main routing table flushed', commands: 'ip route flush table main', told: /route/ },
  ];
}

before(enterNamespace);

for (const backend of ['nft', 'legacy'] as const) {
  describe(`iptables-${backend}`, () => {
    const iptables = `iptables-${backend}`;
    let watched: Watched;
    const took: { name: string; ms: number }[] = [];

    before(async () => {
      watched = await openWatched({ backend });
      // Until then nobody has told us of a change: changes are polled for.
      if (backend === 'nft') await sleep(1_500);
    });
    after(async () => {
      await watched.close();
      const inOrder = took.map(({ ms }) => ms).toSorted((a, b) => a - b);
      console.log(`${iptables}: median ${inOrder[inOrder.length >> 1]?.toFixed(0)} ms, longest ${inOrder.at(-1)?.toFixed(0)} ms`);
      console.log(took.map(({ name, ms }) => `  ${name}: ${ms.toFixed(0)} ms`).join('\n'));
    });

    for (const { name, commands, told } of damagesOf(iptables)) {
      test(`${name}: repaired and told`, async () => {
        const { repairs } = watched.status();
        const ms = await damageAndRepair(backend, commands);
        took.push({ name, ms });
        assert.ok(ms < REPAIR_MS, `repaired only after ${ms.toFixed(0)} ms`);
        await sleep(150);
        const { repairs: now, last = '', lastRepairAt = '' } = watched.status();
        assert.ok(now > repairs, 'the repair was not counted');
        assert.match(last, told);
        assert.ok(Date.now() - Date.parse(lastRepairAt) < 10_000);
      });
    }

    test('what others do to their own rules is none of our business', async () => {
      const { repairs } = watched.status();
      const resyncs = watched.resyncs();
      await run(['sh', '-ec', `${iptables} -N FOREIGN; ${iptables} -A FOREIGN -s 192.0.2.1 -j DROP; ${iptables} -A FORWARD -j FOREIGN; ${iptables} -D FORWARD -j FOREIGN; ${iptables} -F FOREIGN; ${iptables} -X FOREIGN`]);
      await sleep(4_000);
      assert.deepEqual([watched.status().repairs, watched.resyncs()], [repairs, resyncs]);
    });

    test('what we write ourselves is no drift', async () => {
      const resyncs = watched.resyncs();
      for (let count = 0; count < 200; count += 1) await watched.program(2 + (count % 7));
      await watched.program(2);
      await sleep(4_000);
      assert.equal(watched.resyncs(), resyncs);
    });

    test('while nothing changes, nothing is written and hardly any time is used', async () => {
      const [resyncs, repairs, state] = [watched.resyncs(), watched.status().repairs, await ownState(backend)];
      const generation = await rulesetGeneration();
      const usedBefore = cpuMs();
      const startedAt = performance.now();
      await sleep(12_000);
      const percent = ((cpuMs() - usedBefore) / (performance.now() - startedAt)) * 100;
      console.log(`${iptables}: ${percent.toFixed(2)} % of a core while idle`);
      assert.ok(percent < 1, `${percent.toFixed(2)} % of a core`);
      assert.equal(await rulesetGeneration(), generation);
      assert.deepEqual([watched.resyncs(), watched.status().repairs, await ownState(backend)], [resyncs, repairs, state]);
    });
  });
}

test('with 5,000 services on iptables-legacy, looking stays cheap, and what cuts services off is repaired', async () => {
  const watched = await openWatched({ backend: 'legacy', services: 5_000 });
  try {
    const usedBefore = cpuMs();
    const startedAt = performance.now();
    await sleep(14_000);
    const percent = ((cpuMs() - usedBefore) / (performance.now() - startedAt)) * 100;
    console.log(`iptables-legacy, 5,000 services: ${percent.toFixed(2)} % of a core while idle`);
    // Where nothing else runs it is less than one.
    assert.ok(percent < 3, `${percent.toFixed(2)} % of a core`);
    const damages = [
      ['-t nat -F CLAW-SERVICES', /nat: chain CLAW-SERVICES was empty/],
      ['-t nat -F', /nat PREROUTING: jump to CLAW-SERVICES was missing/],
      ['-t nat -I OUTPUT -j ACCEPT', /nat OUTPUT: jump to CLAW-SERVICES was not in its place at the front/],
      ['-F', /filter FORWARD: jump to CLAW-NETPOL was missing/],
    ] as const;
    for (const [damage, told] of damages) {
      const ms = await damageAndRepair('legacy', `iptables-legacy ${damage}`);
      console.log(`  ${damage}: ${ms.toFixed(0)} ms`);
      assert.ok(ms < REPAIR_MS, `${damage}: repaired only after ${ms.toFixed(0)} ms`);
      await sleep(150);
      assert.match(watched.status().last ?? '', told);
    }
  } finally {
    await watched.close();
  }
});

describe('the watching programs', () => {
  test('where no mark can be made at the start, changes are polled for, and told as soon as one can', async () => {
    const driver = openIptables({ backend: 'nft' });
    const ended = new AbortController();
    let resyncs = 0;
    let failures = 0;
    const rules = watchRules({
      iptables: {
        check: (tables, until) => driver.check(tables, until),
        mark: async (chain, until) => {
          if (failures < 3) {
            failures += 1;
            throw new ClawError('KERNEL_REFUSED', 'iptables-nft-restore exited with 1');
          }
          await driver.mark(chain, until);
        },
      },
      resync: () => void (resyncs += 1),
      log: { suspect: () => undefined },
      logger: pino({ level: 'silent' }),
      signal: ended.signal,
    });
    try {
      for (const deadline = performance.now() + 10_000; !rules.isWatching() && performance.now() < deadline; ) await sleep(50);
      assert.equal(failures, 3);
      assert.ok(rules.isWatching(), 'changes are not watched');
      const atFirst = resyncs;
      assert.ok(atFirst > 0, 'what happened before it watched was never looked at');
      await run(['sh', '-ec', 'iptables-nft -N CLAW-STRANGE; iptables-nft -X CLAW-STRANGE']);
      for (const deadline = performance.now() + 3_000; resyncs === atFirst && performance.now() < deadline; ) await sleep(20);
      assert.ok(resyncs > atFirst, 'a change was not told');
    } finally {
      ended.abort();
      await rules.close();
      await driver.close();
    }
  });

  test('are started again when they die, and what happened meanwhile is repaired', async () => {
    const watched = await openWatched({ backend: 'nft' });
    try {
      await sleep(1_500);
      const monitors = childrenOf(process.pid).filter((pid) => / monitor/.test(commandLine(pid)));
      assert.equal(monitors.length, 2);
      for (const pid of monitors) process.kill(pid, 'SIGKILL');
      const damages = ['iptables-nft -D CLAW-EGRESS 1', 'ip route del 10.200.1.2', 'iptables-nft -F CLAW-NETPOL'];
      for (const damage of damages) assert.ok((await damageAndRepair('nft', damage)) < REPAIR_MS, damage);
      await sleep(1_000);
      assert.equal(childrenOf(process.pid).filter((pid) => / monitor/.test(commandLine(pid))).length, 2);
    } finally {
      await watched.close();
    }
    assert.deepEqual(childrenOf(process.pid).map(commandLine).filter((line) => / monitor/.test(line)), []);
  });

  test('where nft is not installed, rules are looked at every few seconds', async () => {
    const path = process.env['PATH'];
    // Every program of this machine but one.
    await run(['sh', '-ec', 'mkdir /run/bin; for folder in $(echo "$PATH" | tr : " "); do ln -s "$folder"/* /run/bin/ 2>/dev/null || true; done; rm /run/bin/nft']);
    process.env['PATH'] = '/run/bin';
    try {
      const watched = await openWatched({ backend: 'nft' });
      await sleep(1_000);
      assert.deepEqual(childrenOf(process.pid).map(commandLine).filter((line) => line.includes('nft -nn')), []);
      const ms = await damageAndRepair('nft', 'iptables-nft -F CLAW-NETPOL');
      assert.ok(ms < REPAIR_MS, `repaired only after ${ms.toFixed(0)} ms`);
      assert.match(watched.status().last ?? '', /CLAW-NETPOL was empty/);
      await watched.close();
    } finally {
      process.env['PATH'] = path;
    }
  });

  test('die with us', async () => {
    const lines = new URL('../../src/drivers/drift-watch-lines.ts', import.meta.url).href;
    const nothing = '() => undefined';
    const script = `import(${JSON.stringify(lines)}).then(({ watchLines }) => watchLines({ argv: ['ip', 'monitor', 'link'], onLines: ${nothing}, onStart: ${nothing}, onEnd: ${nothing} }))`;
    const agent = start([process.execPath, '-e', script], { stdio: 'ignore' });
    const pid = agent.pid ?? 0;
    let watchers: number[] = [];
    for (const deadline = performance.now() + 10_000; watchers.length === 0 && performance.now() < deadline; await sleep(20)) {
      watchers = childrenOf(pid).filter((child) => commandLine(child) === 'ip monitor link');
    }
    assert.equal(watchers.length, 1);
    agent.kill('SIGKILL');
    await sleep(500);
    assert.deepEqual(watchers.map(commandLine).filter((line) => line !== ''), []);
  });
});

/** Changes with every transaction, also one that leaves everything as it was. */
async function rulesetGeneration(): Promise<string> {
  const { stdout } = await run(['sh', '-ec', 'timeout 0.3 nft monitor > /run/generation & sleep 0.15; nft add table ip generation; nft delete table ip generation; wait || true; grep -o "generation [0-9]*" /run/generation | head -1']);
  // Each call makes two generations of its own.
  calls += 1;
  return String(Number(stdout.trim().split(' ')[1]) - 2 * calls);
}

let calls = 0;
