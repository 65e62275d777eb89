/** The ipset driver on the real kernel. */
import { strict as assert } from 'node:assert';
import { before, test } from 'node:test';
import type { IpsetState } from '../../src/compile/kernel-state.ts';
import { openIpset } from '../../src/drivers/ipset.ts';
import { openRestoreProcess } from '../../src/drivers/iptables-restore.ts';
import { enterNamespace, stdoutOf } from './namespace.ts';

const HAIRPIN = 'hash:ip,port,ip family inet hashsize 1024 maxelem 65536';

before(async () => {
  await enterNamespace();
  await stdoutOf('ipset', 'create', 'foreign', 'hash:net');
  await stdoutOf('ipset', 'add', 'foreign', '192.0.2.0/24');
});

test('sets are made, filled and changed by one restore each, and nothing is written twice', async () => {
  const driver = openIpset();
  const one = [setOf('CLAW-a', '10.200.1.2,tcp:80,10.200.1.2', '10.200.1.2,udp:53,10.200.1.2'), setOf('CLAW-b')];
  assert.deepEqual(await driver.apply(one), { written: 4 });
  assert.deepEqual(await driver.apply(one), { written: 0 });
  assert.deepEqual(await driver.apply(one.map((set) => ({ ...set, members: new Set(set.members) }))), { written: 0 });
  const two = [setOf('CLAW-a', '10.200.1.2,tcp:80,10.200.1.2', '10.200.1.3,tcp:80,10.200.1.3')];
  assert.deepEqual(await driver.apply(two), { written: 2 });
  assert.deepEqual(await members('CLAW-a'), ['10.200.1.2,tcp:80,10.200.1.2', '10.200.1.3,tcp:80,10.200.1.3']);
  // What is not wanted any more stays until it is pruned, for rules may still refer to it.
  assert.deepEqual(await names(), ['CLAW-a', 'CLAW-b', 'foreign']);
  assert.deepEqual(await driver.prune(two), { written: 1 });
  assert.deepEqual(await driver.prune(two), { written: 0 });
  assert.deepEqual(await names(), ['CLAW-a', 'foreign']);
});

test('another driver finds what is there, also what others changed', async () => {
  const desired = [setOf('CLAW-a', '10.200.1.2,tcp:80,10.200.1.2', '10.200.1.3,tcp:80,10.200.1.3')];
  const driver = openIpset();
  assert.deepEqual(await driver.apply(desired), { written: 0 });
  await stdoutOf('ipset', 'flush', 'CLAW-a');
  await stdoutOf('ipset', 'add', 'CLAW-a', '10.9.9.9,tcp:1,10.9.9.9');
  assert.deepEqual(await driver.apply(desired), { written: 0 }, 'the hot path reads nothing');
  driver.resync();
  assert.deepEqual(await driver.apply(desired), { written: 3 });
  assert.deepEqual(await members('CLAW-a'), [...(desired[0]?.members ?? [])]);
  await stdoutOf('ipset', 'destroy', 'CLAW-a');
  driver.resync();
  assert.deepEqual(await driver.apply(desired), { written: 3 });
});

test('after a refusal the kernel is read again, and the next apply goes on', async () => {
  const driver = openIpset();
  const good = [setOf('CLAW-a', '10.200.1.2,tcp:80,10.200.1.2')];
  await driver.apply(good);
  await assert.rejects(driver.apply([setOf('CLAW-c', '10.200.1.4,tcp:80,10.200.1.4', 'nonsense')]), { code: 'PROCESS_FAILED', message: /nonsense/ });
  const repaired = [...good, setOf('CLAW-c', '10.200.1.4,tcp:80,10.200.1.4')];
  await driver.apply(repaired);
  assert.deepEqual(await members('CLAW-c'), ['10.200.1.4,tcp:80,10.200.1.4']);
  assert.deepEqual(await driver.apply(repaired), { written: 0 });
});

test('a set that a rule refers to cannot be pruned, and the driver survives it', async () => {
  const driver = openIpset();
  await driver.apply([setOf('CLAW-used')]);
  await stdoutOf('iptables', '-A', 'FORWARD', '-m', 'set', '--match-set', 'CLAW-used', 'src,dst,dst', '-j', 'ACCEPT');
  await assert.rejects(driver.prune([]), { code: 'PROCESS_FAILED' });
  await stdoutOf('iptables', '-D', 'FORWARD', '-m', 'set', '--match-set', 'CLAW-used', 'src,dst,dst', '-j', 'ACCEPT');
  await driver.removeAll();
  assert.deepEqual(await names(), ['foreign']);
  assert.deepEqual(await members('foreign'), ['192.0.2.0/24']);
  assert.deepEqual(await driver.removeAll(), { written: 0 });
});

test('all sets go as soon as the rules that named them have gone, though the kernel lets go of them a little later', async (context) => {
  const driver = openIpset();
  // A program that ends waits for the kernel; one that goes on does not.
  const rules = openRestoreProcess({ argv: ['iptables-restore', '--noflush', '-v', '--wait'], onExit: () => undefined });
  context.after(() => rules.close());
  for (let turn = 0; turn < 20; turn += 1) {
    const { name } = setOf(`CLAW-turn-${turn}`);
    await driver.apply([setOf(name)]);
    await rules.commit(`*filter\n:TURN - [0:0]\n-A TURN -m set --match-set ${name} src,dst,dst -j ACCEPT\nCOMMIT\n`, { timeoutMs: 10_000 });
    await rules.commit('*filter\n:TURN - [0:0]\nCOMMIT\n', { timeoutMs: 10_000 });
    await driver.removeAll();
    assert.deepEqual(await names(), ['foreign']);
  }
});

test('ten thousand members are written at once', async () => {
  const driver = openIpset();
  const desired = [setOf('CLAW-large', ...Array.from({ length: 10_000 }, (_, n) => `10.${n >> 8}.${n & 255}.1,tcp:80,10.${n >> 8}.${n & 255}.1`))];
  assert.deepEqual(await driver.apply(desired), { written: 10_001 });
  driver.resync();
  assert.deepEqual(await driver.apply(desired), { written: 0 });
  await driver.removeAll();
});

function setOf(name: string, ...all: readonly string[]): IpsetState {
  return { name, create: HAIRPIN, members: new Set(all) };
}

async function names(): Promise<string[]> {
  return (await stdoutOf('ipset', 'list', '-n')).trim().split('\n').toSorted();
}

async function members(name: string): Promise<string[]> {
  const text = await stdoutOf('ipset', 'save', name);
  return text
    .split('\n')
    .filter((line) => line.startsWith('add '))
    .map((line) => line.split(' ')[2] ?? '')
    .toSorted();
}
