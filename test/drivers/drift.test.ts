/** What is noticed of changes in the kernel, and how it is said: parsing and wording, without a kernel. */
import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import type { Jump, Rules, TableState } from '../../src/compile/kernel-state.ts';
import { concernsUs } from '../../src/drivers/drift-watch-ip.ts';
import { rulesetParser, type RulesetChange } from '../../src/drivers/drift-watch-nft.ts';
import { describeDrift } from '../../src/drivers/iptables-drift.ts';
import type { ProgrammedTable } from '../../src/drivers/iptables-save.ts';
import { iptablesDriver } from '../../src/drivers/iptables.ts';
import { FakeIptables } from './fake-iptables.ts';

const JUMPS: readonly Jump[] = [
  { chain: 'FORWARD', rule: '-j CLAW-A', place: 'first' },
  { chain: 'INPUT', rule: '-j CLAW-B', place: 'last' },
];
const STATE: TableState = {
  chains: new Map<string, Rules>([
    ['CLAW-A', ['-j CLAW-B']],
    ['CLAW-B', ['-j RETURN', '-j DROP']],
  ]),
  jumps: JUMPS,
};
const HELD: ProgrammedTable = { chains: STATE.chains, jumps: [{ chain: 'FORWARD', rule: '-j CLAW-A', index: 0 }, { chain: 'INPUT', rule: '-j CLAW-B', index: 7 }] };

const told = (held: ProgrammedTable, desired: TableState = STATE): string[] => describeDrift({ table: 'filter', held, believed: STATE, desired });

test('a table that is as we left it is not told of', () => {
  assert.deepEqual(told(HELD), []);
});

test('missing and displaced jumps, missing, emptied, changed and unknown chains are named', () => {
  assert.deepEqual(told({ ...HELD, jumps: HELD.jumps.slice(1) }), ['filter FORWARD: jump to CLAW-A was missing']);
  assert.deepEqual(told({ ...HELD, jumps: HELD.jumps.map((jump) => ({ ...jump, index: 3 })) }), ['filter FORWARD: jump to CLAW-A was not in its place at the front']);
  const chains = new Map<string, Rules>([['CLAW-B', ['-j DROP']], ['CLAW-C', []]]);
  assert.deepEqual(told({ ...HELD, chains }), ['filter: chain CLAW-A was missing', 'filter: chain CLAW-B had lost rules', 'filter: chain CLAW-C was none of ours']);
  assert.deepEqual(told({ ...HELD, chains: new Map([['CLAW-A', []], ['CLAW-B', ['-j DROP', '-j RETURN']]]) }), ['filter: chain CLAW-A was empty', 'filter: chain CLAW-B held other rules']);
  assert.deepEqual(told({ chains: new Map(), jumps: [] }), ['filter: all chains and jumps of ours were missing']);
});

test('a jump into a chain that may not exist is missed only where the chain does', async () => {
  const kernel = new FakeIptables();
  const driver = iptablesDriver({ preferredBytes: Infinity, maximumBytes: Infinity }, () => kernel);
  const nothing: TableState = { chains: new Map(), jumps: [] };
  const jumps: readonly Jump[] = [...JUMPS, { chain: 'DOCKER-USER', rule: '-j CLAW-A', place: 'first', optional: true }];
  const desired = { raw: nothing, nat: nothing, filter: { ...STATE, jumps } };
  for (const smallTableRules of [Infinity, 0]) {
    kernel.smallTableRules = smallTableRules;
    driver.resync();
    await driver.apply(desired);
    assert.deepEqual([(await driver.apply(desired)).written, await driver.check(['filter'])], [0, []]);
    kernel.restore('*filter\n:DOCKER-USER - [0:0]\n-A DOCKER-USER -j RETURN\nCOMMIT\n');
    assert.deepEqual(await driver.check(['filter']), ['filter DOCKER-USER: jump to CLAW-A was missing']);
    driver.resync();
    await driver.apply(desired);
    assert.deepEqual(kernel.rules('filter', 'DOCKER-USER'), ['-j CLAW-A', '-j RETURN']);
    assert.deepEqual([(await driver.apply(desired)).written, await driver.check(['filter'])], [0, []]);
    kernel.restore('*filter\n-I DOCKER-USER 1 -j ACCEPT\nCOMMIT\n');
    assert.deepEqual(await driver.check(['filter']), ['filter DOCKER-USER: jump to CLAW-A was not in its place at the front']);
    kernel.restore('*filter\n:DOCKER-USER - [0:0]\n-X DOCKER-USER\nCOMMIT\n');
    assert.deepEqual(await driver.check(['filter']), []);
  }
  await driver.removeAll();
});

test('thousands of chains are told of in one line', () => {
  const many: TableState = { chains: new Map(Array.from({ length: 5_000 }, (_, index) => [`CLAW-${index}`, ['-j DROP']])), jumps: [] };
  const held = { chains: new Map([...many.chains.keys()].map((name) => [name, []])), jumps: [] };
  assert.deepEqual(describeDrift({ table: 'nat', held, believed: many, desired: many }), ['nat: 5000 chains, chain CLAW-0 among them, were empty']);
});

test('what we change ourselves while we repair is not told as if it were others', () => {
  const desired: TableState = { chains: new Map([['CLAW-A', ['-j DROP']], ['CLAW-NEW', []]]), jumps: JUMPS.slice(0, 1) };
  assert.deepEqual(told(HELD, desired), []);
});

test('the driver tells what it repaired once it is, and checks without writing', async () => {
  const kernel = new FakeIptables();
  const repaired: string[] = [];
  const connect = (onExit: () => void): FakeIptables => {
    kernel.onExit = onExit;
    return kernel;
  };
  const driver = iptablesDriver({ preferredBytes: Infinity, maximumBytes: Infinity }, connect, (words) => repaired.push(...words));
  const nothing: TableState = { chains: new Map(), jumps: [] };
  const desired = { raw: nothing, nat: nothing, filter: STATE };
  assert.deepEqual(await driver.check(['filter']), [], 'nothing is known yet');
  await driver.apply(desired);
  for (const smallTableRules of [0, Infinity]) {
    kernel.smallTableRules = smallTableRules;
    assert.deepEqual(await driver.check(['raw', 'filter', 'nat']), []);
    kernel.restore('*filter\n-D FORWARD -j CLAW-A\nCOMMIT\n');
    const payloads = kernel.payloads.length;
    assert.deepEqual(await driver.check(['filter']), ['filter FORWARD: jump to CLAW-A was missing']);
    assert.deepEqual(await driver.check(['nat']), []);
    assert.equal(kernel.payloads.length, payloads);
    driver.resync();
    assert.deepEqual(await driver.check(['filter']), [], 'the next apply reads anyway');
    await driver.apply(desired);
    assert.deepEqual(repaired.splice(0), ['filter FORWARD: jump to CLAW-A was missing']);
    kernel.restore('*filter\n-D CLAW-A -j CLAW-B\nCOMMIT\n');
    assert.deepEqual(await driver.check(['filter']), ['filter: chain CLAW-A was empty']);
    driver.resync();
    await driver.apply(desired);
    repaired.length = 0;
  }
  driver.resync();
  await driver.apply(desired);
  assert.deepEqual(repaired, []);
});

test('a mark leaves nothing behind and is no change', async () => {
  const kernel = new FakeIptables();
  const driver = iptablesDriver({ preferredBytes: Infinity, maximumBytes: Infinity }, () => kernel);
  const before = kernel.text();
  await driver.mark('CLAW-MARK-1');
  assert.equal(kernel.text(), before);
  assert.deepEqual(kernel.payloads, ['*raw\n:CLAW-MARK-1 - [0:0]\n-X CLAW-MARK-1\nCOMMIT\n']);
});

test('of the ruleset only what concerns us is told, with whom it was, whatever pieces it comes in', () => {
  const changes: RulesetChange[] = [];
  let overflows = 0;
  const parse = rulesetParser((change) => changes.push(change), () => (overflows += 1));
  const by = (pid: number, program: string): string => `# new generation 9 by process ${pid} (${program})`;
  parse(['add rule ip filter DOCKER iifname "docker0" counter packets 0 bytes 0 accept', by(1, 'dockerd')]);
  parse(['add rule ip6 filter FORWARD drop', 'add rule ip mangle FORWARD drop', 'delete table inet filter', 'add table ip nat', by(2, 'nft')]);
  assert.deepEqual(changes, []);
  parse(['insert rule ip filter FORWARD iifname "docker0" accept']);
  parse([by(3, 'iptables')]);
  parse(['delete rule ip nat CLAW-X handle 2', 'delete rule ip nat OUTPUT handle 3', by(4, 'iptables (nft)')]);
  parse(['delete table ip raw', by(5, 'nft')]);
  parse(['create chain ip raw CLAW-MARK-ab', 'delete chain ip raw CLAW-MARK-ab', by(6, 'iptables-nft-re')]);
  parse(['# ERROR: We lost some netlink events!', '']);
  const quiet = { ours: false, besideJumps: [], mark: undefined };
  assert.deepEqual(changes, [
    { ...quiet, pid: 3, program: 'iptables', besideJumps: ['filter'] },
    { ...quiet, pid: 4, program: 'iptables (nft)', ours: true, besideJumps: ['nat'] },
    { ...quiet, pid: 5, program: 'nft', ours: true },
    { ...quiet, pid: 6, program: 'iptables-nft-re', mark: 'CLAW-MARK-ab' },
  ]);
  assert.equal(overflows, 1);
});

test('of addresses, routes and interfaces only what is ours is looked at', () => {
  const ours = [
    'Deleted 3: clawvabc@NONE: <BROADCAST,MULTICAST> mtu 1500 qdisc noop state DOWN group default \\    link/ether fe:31:32:7a:5d:0d',
    'Deleted 10.200.1.2 dev clawvabc proto 201 scope link linkdown ',
    'Deleted 1: lo    inet 10.200.1.1/32 scope global lo:claw\\       valid_lft forever preferred_lft forever',
    'Deleted local 10.201.0.0/16 dev lo table local proto 201 scope host src 10.200.1.1 ',
    'inet all forwarding off ',
    '1: lo: <LOOPBACK> mtu 65536 qdisc noqueue state DOWN group default ',
  ];
  const others = [
    'inet clawvabc forwarding on rp_filter off mc_forwarding off ',
    'Deleted inet clawvabc ',
    '7: docker0: <BROADCAST,MULTICAST,UP> mtu 1500 qdisc noqueue state UP group default ',
    '192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.1 ',
    '',
  ];
  assert.deepEqual([ours.filter((line) => !concernsUs(line)), others.filter(concernsUs)], [[], []]);
});
