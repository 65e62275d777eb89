/** The iptables driver on a kernel in memory: any desired state is reached, foreign rules stay, failures are recovered from. */
import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { TABLES, type IptablesState, type Jump, type Table } from '../../src/compile/kernel-state.ts';
import { iptablesDriver } from '../../src/drivers/iptables.ts';
import type { TransactionSizes } from '../../src/drivers/iptables-transactions.ts';
import { FakeIptables, type Failure } from './fake-iptables.ts';

const UNBOUNDED: TransactionSizes = { preferredBytes: Infinity, maximumBytes: Infinity };
const TINY: TransactionSizes = { preferredBytes: 1_000, maximumBytes: 1_000 };

const FOREIGN = `*filter
:DOCKER - [0:0]
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -m comment --comment "here -j CLAW-A is only text" -j ACCEPT
-A DOCKER -j RETURN
-A INPUT -i lo -j ACCEPT
COMMIT
*nat
-A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE
-A OUTPUT -d 1.2.3.4/32 -j RETURN
COMMIT
`;

test('a first apply writes everything, a second one nothing', async () => {
  const { kernel, driver } = open();
  const chains = { 'CLAW-S': ['-d 10.201.0.1/32 -j CLAW-T'], 'CLAW-T': ['-p tcp -j DNAT --to-destination 10.200.1.2:80'] };
  const desired = stateOf({ nat: { chains, jumps: [first('OUTPUT', 'CLAW-S'), last('POSTROUTING', 'CLAW-T')] } });
  assert.deepEqual(await driver.apply(desired), { written: 6 });
  assert.deepEqual(await driver.apply(desired), { written: 0 });
  assert.deepEqual(await driver.apply(structuredClone(desired)), { written: 0 });
  assert.deepEqual(kernel.rules('nat', 'OUTPUT'), ['-j CLAW-S', '-d 1.2.3.4/32 -j RETURN']);
  assert.deepEqual(kernel.rules('nat', 'POSTROUTING'), ['-s 172.17.0.0/16 -j MASQUERADE', '-j CLAW-T']);
  assert.equal(kernel.saves, 1);
});

test('the payload holds the difference only: chains first, then rules, then deletions, table by table', async () => {
  const { kernel, driver } = open();
  await driver.apply(stateOf({ nat: { chains: { 'CLAW-S': ['-j CLAW-OLD'], 'CLAW-OLD': ['-j RETURN'], 'CLAW-SAME': ['-j RETURN'] }, jumps: [first('OUTPUT', 'CLAW-S')] } }));
  await driver.apply(
    stateOf({
      raw: { chains: { 'CLAW-R': [''] }, jumps: [] },
      nat: { chains: { 'CLAW-S': ['-j CLAW-NEW'], 'CLAW-NEW': ['-j RETURN'], 'CLAW-SAME': ['-j RETURN'] }, jumps: [first('OUTPUT', 'CLAW-S')] },
    }),
  );
  const expected = `*raw
:CLAW-R - [0:0]
-A CLAW-R
COMMIT
*nat
:CLAW-NEW - [0:0]
:CLAW-S - [0:0]
:CLAW-OLD - [0:0]
-A CLAW-NEW -j RETURN
-A CLAW-S -j CLAW-NEW
-X CLAW-OLD
COMMIT
`;
  assert.equal(kernel.payloads.at(-1), expected);
});

test('a few rules come and go one by one in their places; where rules change places the chain is rewritten', async () => {
  const { kernel, driver } = open();
  const withRules = (rules: string[]) => stateOf({ nat: { chains: { 'CLAW-S': rules }, jumps: [first('OUTPUT', 'CLAW-S')] } });
  const [a, b, c, d] = ['1', '2', '3', '4'].map((host) => `-d 10.201.0.${host}/32 -j ACCEPT`);
  assert.ok(a !== undefined && b !== undefined && c !== undefined && d !== undefined);
  await driver.apply(withRules([b, d]));
  await driver.apply(withRules([a, b, c, d]));
  assert.equal(kernel.payloads.at(-1), `*nat\n-I CLAW-S 1 ${a}\n-I CLAW-S 3 ${c}\nCOMMIT\n`);
  assert.deepEqual(kernel.rules('nat', 'CLAW-S'), [a, b, c, d]);
  await driver.apply(withRules([a, c, d]));
  assert.equal(kernel.payloads.at(-1), '*nat\n-D CLAW-S 2\nCOMMIT\n');
  await driver.apply(withRules([a, b, d]));
  assert.equal(kernel.payloads.at(-1), `*nat\n-D CLAW-S 2\n-I CLAW-S 2 ${b}\nCOMMIT\n`);
  assert.deepEqual(kernel.rules('nat', 'CLAW-S'), [a, b, d]);
  await driver.apply(withRules([d, b, a]));
  assert.equal(kernel.payloads.at(-1), `*nat\n:CLAW-S - [0:0]\n-A CLAW-S ${d}\n-A CLAW-S ${b}\n-A CLAW-S ${a}\nCOMMIT\n`);
});

test('any sequence of states is reached, in transactions of any size, and foreign rules stay as they are', async () => {
  const sizes = fc.constantFrom(UNBOUNDED, TINY, { preferredBytes: 1_000, maximumBytes: Infinity });
  await fc.assert(
    fc.asyncProperty(fc.array(anyState, { minLength: 1, maxLength: 6 }), sizes, async (states, size) => {
      const { kernel, driver } = open(size);
      for (const desired of states) {
        await driver.apply(desired);
        assertHolds(kernel, desired);
        assert.deepEqual(await driver.apply(desired), { written: 0 });
        // What is remembered is what the kernel holds.
        driver.resync();
        assert.deepEqual(await driver.apply(desired), { written: 0 });
      }
      await driver.removeAll();
      assert.equal(kernel.text(), withForeignRules().text());
    }),
    { numRuns: 150 },
  );
});

test('whatever fails at whatever point, the next apply reaches the desired state', async () => {
  const failures = fc.constantFrom<Failure>('exit before commit', 'exit after first table', 'no proof');
  await fc.assert(
    fc.asyncProperty(anyState, anyState, failures, async (before, after, failure) => {
      const { kernel, driver } = open();
      await driver.apply(before);
      kernel.failNext = failure;
      const outcome = await driver.apply(after).then(
        ({ written }) => written,
        (error: unknown) => error,
      );
      // Only a difference can fail to be written.
      assert.ok(outcome === 0 || outcome instanceof Error);
      kernel.failNext = undefined;
      await driver.apply(after);
      assertHolds(kernel, after);
    }),
    { numRuns: 150 },
  );
});

test('a failure that leaves the restore process alive is a failure all the same', async () => {
  const { kernel, driver } = open();
  const desired = stateOf({ nat: { chains: { 'CLAW-A': ['-j RETURN'] }, jumps: [] } });
  await driver.apply(desired);
  const commit = kernel.commit.bind(kernel);
  kernel.commit = async (payload) => {
    await commit(payload);
    throw new Error('told too late');
  };
  await assert.rejects(driver.apply(stateOf({})), { message: 'told too late' });
  kernel.commit = commit;
  await driver.apply(desired);
  assertHolds(kernel, desired);
});

test('a large change in small transactions never shows a half-made chain to the rules in force', async () => {
  const { kernel, driver } = open({ preferredBytes: 2_000, maximumBytes: Infinity });
  let transactions = 0;
  kernel.onTransaction = () => {
    transactions += 1;
    if (!kernel.rules('nat', 'OUTPUT').includes('-j CLAW-TOP')) return;
    const leaves = kernel.rules('nat', 'CLAW-TOP').map((rule) => kernel.rules('nat', rule.split(' ').at(-1) ?? ''));
    for (const rules of leaves) assert.equal(rules.length, 2);
    // Chains in force change together.
    assert.ok(new Set(leaves.flat().map((rule) => rule.split(':').at(-1))).size <= 1);
  };
  for (const [count, port] of [[20, 80], [40, 80], [40, 81], [5, 82], [0, 82]] as const) {
    await driver.apply(tree(count, port));
    assertHolds(kernel, tree(count, port));
  }
  assert.ok(transactions > 20);
});

test('a jump that others moved, doubled or deleted is put right after a resync, and a chain of ours that they filled is emptied', async () => {
  const desired = stateOf({ filter: { chains: { 'CLAW-NETPOL': ['-j ACCEPT'] }, jumps: [first('FORWARD', 'CLAW-NETPOL')] } });
  const damages = [
    '-I FORWARD 1 -i eth7 -j ACCEPT',
    '-D FORWARD -j CLAW-NETPOL',
    '-A FORWARD -j CLAW-NETPOL',
    '-A DOCKER -j CLAW-NETPOL',
    ':CLAW-NETPOL - [0:0]',
    '-A CLAW-NETPOL -j DROP',
    ':CLAW-STRAY - [0:0]\n-A CLAW-STRAY -j CLAW-NETPOL',
  ];
  for (const damage of damages) {
    const { kernel, driver } = open();
    await driver.apply(desired);
    kernel.restore(`*filter\n${damage}\nCOMMIT\n`);
    assert.deepEqual(await driver.apply(desired), { written: 0 }, 'the hot path reads nothing');
    driver.resync();
    assert.ok((await driver.apply(desired)).written > 0, damage);
    assertHolds(kernel, desired);
    assert.equal(kernel.rules('filter', 'FORWARD')[0], '-j CLAW-NETPOL', damage);
  }
});

test('removeAll finds what is ours in every table and needs no state', async () => {
  const kernel = withForeignRules();
  const untouched = kernel.text();
  kernel.restore('*mangle\n:CLAW-M - [0:0]\n:CLAW-N - [0:0]\n-A CLAW-M -j CLAW-N\n-A CLAW-N -g CLAW-M\n-A FORWARD -j CLAW-M\nCOMMIT\n*nat\n:CLAW-S - [0:0]\n-A CLAW-S -j RETURN\n-I OUTPUT 1 -j CLAW-S\n-A OUTPUT -j CLAW-S\nCOMMIT\n');
  const driver = driverOf(kernel, UNBOUNDED);
  await driver.removeAll();
  assert.equal(kernel.text(), untouched);
  assert.deepEqual(await driver.removeAll(), { written: 0 });
});

test('calls in a hurry are served one after the other', async () => {
  const { kernel, driver } = open();
  const states = Array.from({ length: 20 }, (_, n) => stateOf({ nat: { chains: { [`CLAW-${n}`]: ['-j RETURN'] }, jumps: [] } }));
  await Promise.all(states.map((state) => driver.apply(state)));
  assertHolds(kernel, states[19] ?? stateOf({}));
  assert.equal(kernel.saves, 1);
});

test('a resync while a payload is on its way is not forgotten', async () => {
  const { kernel, driver } = open();
  const desired = stateOf({ nat: { chains: { 'CLAW-A': ['-j RETURN'] }, jumps: [] } });
  kernel.onTransaction = () => {
    kernel.restore('*nat\n:CLAW-A - [0:0]\nCOMMIT\n');
    driver.resync();
  };
  await driver.apply(desired);
  kernel.onTransaction = () => undefined;
  await driver.apply(desired);
  assertHolds(kernel, desired);
});

test('names that are not ours are refused before anything is written', async () => {
  const { kernel, driver } = open();
  await assert.rejects(driver.apply(stateOf({ nat: { chains: { DOCKER: [] }, jumps: [] } })), { code: 'INTERNAL' });
  await assert.rejects(driver.apply(stateOf({ nat: { chains: {}, jumps: [{ chain: 'OUTPUT', rule: '-j ACCEPT', place: 'last' }] } })), { code: 'INTERNAL' });
  assert.deepEqual(kernel.payloads, []);
});

test('a table that iptables cannot show is not taken for an empty one', async () => {
  const kernel = withForeignRules();
  kernel.save = async () => "*raw\nCOMMIT\n# Table `nat' is incompatible, use 'nft' tool.\n";
  await assert.rejects(driverOf(kernel, UNBOUNDED).apply(stateOf({})), { code: 'NOT_SUPPORTED', message: /nat/ });
});

/** A dispatch chain and one chain of two rules per service. */
function tree(count: number, port: number): IptablesState {
  const rules = (n: number): string[] => ['tcp', 'udp'].map((protocol) => `-p ${protocol} -j DNAT --to-destination 10.0.0.${n}:${port}`);
  const leaves = Array.from({ length: count }, (_, n): [string, string[]] => [`CLAW-S-${n}`, rules(n)]);
  const top = leaves.map(([name], n) => `-d 10.201.0.${n}/32 -j ${name}`);
  return stateOf({ nat: { chains: { 'CLAW-TOP': top, ...Object.fromEntries(leaves) }, jumps: [first('OUTPUT', 'CLAW-TOP')] } });
}

function open(sizes = UNBOUNDED) {
  const kernel = withForeignRules();
  return { kernel, driver: driverOf(kernel, sizes) };
}

function withForeignRules(): FakeIptables {
  const kernel = new FakeIptables();
  kernel.restore(FOREIGN);
  return kernel;
}

function driverOf(kernel: FakeIptables, sizes: TransactionSizes) {
  return iptablesDriver(sizes, (onExit) => {
    kernel.onExit = onExit;
    return kernel;
  });
}

interface PlainTable {
  readonly chains: Readonly<Record<string, readonly string[]>>;
  readonly jumps: readonly Jump[];
}

function stateOf(tables: Partial<Record<Table, PlainTable>>): IptablesState {
  const tableOf = (table: Table) => ({ chains: new Map(Object.entries(tables[table]?.chains ?? {})), jumps: tables[table]?.jumps ?? [] });
  return { raw: tableOf('raw'), filter: tableOf('filter'), nat: tableOf('nat') };
}

function first(chain: string, target: string): Jump {
  return { chain, rule: `-j ${target}`, place: 'first' };
}

function last(chain: string, target: string): Jump {
  return { chain, rule: `-j ${target}`, place: 'last' };
}

const NAMES = ['CLAW-A', 'CLAW-B', 'CLAW-C', 'CLAW-D', 'CLAW-E'];
const BASE: Readonly<Record<Table, readonly string[]>> = { raw: ['PREROUTING'], filter: ['INPUT', 'FORWARD'], nat: ['OUTPUT', 'POSTROUTING'] };

/** Up to five chains a table that refer to each other in any way, cycles included, and jumps to them from anywhere. */
const anyState: fc.Arbitrary<IptablesState> = fc.tuple(...TABLES.map((table) => anyTable(table))).map((tables) => stateOf(Object.assign({}, ...tables)));

function anyTable(table: Table): fc.Arbitrary<Partial<Record<Table, PlainTable>>> {
  return fc.subarray([...NAMES]).chain((names) => {
    const targets = ['-j RETURN', '-p tcp -j ACCEPT', '-s 10.0.0.0/8 -m comment --comment "a b" -j DROP', ''];
    const rules = fc.array(fc.constantFrom(...targets, ...names.map((name) => `-d 10.0.0.1/32 -j ${name}`)), { maxLength: 4 });
    const chains = fc.tuple(...names.map(() => rules)).map((all) => Object.fromEntries(names.map((name, index) => [name, all[index] ?? []])));
    return fc.record({ chains, jumps: anyJumps(table, names) }).map((plain) => ({ [table]: plain }));
  });
}

function anyJumps(table: Table, names: readonly string[]): fc.Arbitrary<Jump[]> {
  if (names.length === 0) return fc.constant([]);
  const jump = fc.record({
    chain: fc.constantFrom(...BASE[table]),
    rule: fc.constantFrom(...names.flatMap((name) => [`-i lo -j ${name}`, `-j ${name}`])),
    place: fc.constantFrom('first' as const, 'last' as const),
  });
  return fc.uniqueArray(jump, { maxLength: 4, selector: ({ chain, rule }) => `${chain} ${rule}` });
}

/** The kernel holds the desired chains and jumps, no others of ours, and the foreign rules in their order. */
function assertHolds(kernel: FakeIptables, desired: IptablesState): void {
  const untouched = withForeignRules();
  for (const [table, chains] of kernel.tables) {
    const wanted = TABLES.find((name) => name === table);
    const state = wanted === undefined ? { chains: new Map<string, readonly string[]>(), jumps: [] } : desired[wanted];
    assert.deepEqual([...chains.keys()].filter((name) => name.startsWith('CLAW-')).toSorted(), [...state.chains.keys()].toSorted());
    for (const [name, rules] of state.chains) assert.deepEqual(kernel.rules(table, name), rules);
    for (const [name, rules] of chains) {
      if (name.startsWith('CLAW-')) continue;
      const foreign = untouched.rules(table, name);
      const ofPlace = (place: Jump['place']): string[] => state.jumps.filter((jump) => jump.chain === name && jump.place === place).map((jump) => jump.rule);
      const [head, tail] = [ofPlace('first'), ofPlace('last')];
      assert.deepEqual(rules.slice(0, head.length), head);
      assert.deepEqual(rules.filter((rule) => foreign.includes(rule)), foreign);
      assert.deepEqual(rules.slice(head.length).filter((rule) => !foreign.includes(rule) && rule.includes('-j CLAW-')), tail);
    }
  }
}
