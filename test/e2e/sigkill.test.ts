/** SIGKILL of the agent at random moments under load, 50 times: nothing acknowledged is lost, nothing is double, nothing healthy fails. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launcher, runProcess } from '../cli/cli-process.ts';
import { report, type Report, type Settings } from './sigkill-script.ts';

// The seed is told, so that a failure can be sought again with the same kills: CLAWNODE_TEST_SEED=...
const seed = Number(process.env['CLAWNODE_TEST_SEED'] ?? Date.now() % 1_000_000_000);
const directory = await mkdtemp(join(tmpdir(), 'claw-sigkill-'));
const plan: Settings = { kills: 50, restoreKills: 8, proxyKills: 8, seed, startsFile: join(directory, 'starts') };
let seen: Report;

before(async () => {
  const script = [process.execPath, join(import.meta.dirname, 'sigkill-script.ts'), JSON.stringify(plan)];
  const { exitCode, stdout, stderr } = await runProcess([process.execPath, launcher, 'sandbox', '--', ...script]);
  assert.equal(exitCode, 0, stderr);
  seen = report.parse(JSON.parse(stdout));
  process.stderr.write(`${figures(seen)}\n`);
});
after(() => rm(directory, { recursive: true }));

test('the load was real: kills at all moments, requests and changes all the while', () => {
  const { kills, readyMs, requests, changes } = seen;
  assert.ok(kills.agent >= plan.kills && kills.whileStarting > 0, JSON.stringify(kills));
  assert.ok(kills.restore > 0 && kills.proxy > 0, JSON.stringify(kills));
  assert.ok(readyMs.length > plan.kills / 2);
  for (const { answers } of [requests.vip, requests.ingress, requests.fromWorkload]) {
    assert.deepEqual(Object.keys(answers).toSorted(), ['steady-1', 'steady-2']);
    assert.ok(total(answers) > 500, JSON.stringify(answers));
  }
  assert.ok(changes.acknowledged > 40 && changes.triedAgain > 20, JSON.stringify(changes));
});

test('no request to an always-healthy endpoint failed, through the virtual IP, the ingress, or from a workload', () => {
  const { vip, ingress, ingressWhileDead, fromWorkload, longLived } = seen.requests;
  assert.ok(total(ingressWhileDead.answers) > 50, JSON.stringify(ingressWhileDead));
  assert.deepEqual([vip.failures, ingress.failures, ingressWhileDead.failures, fromWorkload.failures], [{}, {}, {}, {}]);
  assert.equal(longLived.failure, undefined);
});

test('every acknowledged change was in force at once and stayed', () => {
  assert.deepEqual(seen.changes.surprises, []);
});

test('nothing acknowledged is lost: answers and store hold it, with the same addresses', () => {
  const { acknowledged, constant, held } = seen;
  for (const { services, workloads } of [held.answers, held.store]) {
    assert.deepEqual(sorted(services), sorted([...acknowledged.services, ...constant.services]));
    assert.deepEqual(sorted(workloads), sorted([...acknowledged.workloads, ...constant.workloads]));
  }
});

test('nothing that was acknowledged as deleted is left: not in the store, not in the kernel', () => {
  const { acknowledged, held } = seen;
  assert.ok(acknowledged.deletedServices.length > 0 && acknowledged.stoppedWorkloads.length > 0);
  const names = new Set([...held.store.services, ...held.store.workloads].map(({ name }) => name));
  const owned = new Set(held.store.allocations.map(({ ip }) => ip));
  for (const { name, clusterIp } of acknowledged.deletedServices) {
    assert.ok(!names.has(name), name);
    // After its quarantine the address may have another owner.
    if (!owned.has(clusterIp)) assert.ok(!held.kernel.vips.includes(clusterIp), clusterIp);
  }
  for (const { name, id, ip } of acknowledged.stoppedWorkloads) {
    assert.ok(!names.has(name), name);
    assert.ok(!held.kernel.interfaces.includes(`clawv${id}`) && !held.kernel.netns.includes(`claw-${id}`), name);
    if (!owned.has(ip)) assert.ok(!held.kernel.workloadIps.includes(ip), ip);
  }
});

test('no address is double: in store, kernel and answers each has one owner, and none was given out before its rest was over', () => {
  const { store, kernel } = seen.held;
  const vips = store.services.map(({ clusterIp }) => clusterIp).toSorted();
  const ips = store.workloads.map(({ ip }) => ip).toSorted();
  assert.deepEqual([new Set(vips).size, new Set(ips).size], [vips.length, ips.length]);
  assert.deepEqual([kernel.vips, kernel.workloadIps], [vips, ips]);
  const owners = [...store.services.map(({ name, clusterIp }) => ({ ip: clusterIp, owner: `services/default/${name}` })), ...store.workloads.map(({ name, ip }) => ({ ip, owner: `workloads/default/${name}` }))];
  assert.deepEqual(sorted(store.allocations), sorted(owners));
  assert.deepEqual(seen.changes.handedOutTooSoon, []);
});

test('no interface, network namespace or process is left over, and none is missing', () => {
  const { store, kernel, processes, answers } = seen.held;
  const ids = store.workloads.map(({ id }) => id);
  assert.deepEqual(kernel.interfaces, ids.map((id) => `clawv${id}`).toSorted());
  assert.deepEqual(kernel.netns, ids.map((id) => `claw-${id}`).toSorted());
  const directories = ids.map((id) => `workloads/${id}`).toSorted();
  const { agents, restores, proxies, supervised, strays } = processes;
  assert.deepEqual(processes.directories, directories);
  // It is started by the first change, so an agent that found all in place has none.
  assert.ok(restores <= 1, `${restores} restore processes`);
  assert.deepEqual({ agents, proxies, supervised, strays }, { agents: 1, proxies: 2, supervised: ['proxy/1', 'proxy/2', ...directories], strays: [] });
  assert.ok(answers.inSync);
});

test('no workload was started twice, and every acknowledged one was started', () => {
  const { starts, acknowledged } = seen;
  assert.deepEqual(Object.entries(starts).filter(([, count]) => count !== 1), []);
  for (const { name } of acknowledged.workloads) assert.equal(starts[name], 1, name);
});

test('the rules are those of a fresh compile: a clean restart changes nothing, and one that finds no rules writes the same', () => {
  assert.deepEqual(seen.differences, { afterCleanRestart: [], afterLostRules: [] });
});

function total(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}

function sorted<T>(items: readonly T[]): T[] {
  return items.toSorted((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
}

function figures({ loadMs, kills, readyMs, proxyKills, requests, changes }: Report): string {
  const ascending = readyMs.toSorted((a, b) => a - b);
  const quantile = (part: number): string => `${Math.round(ascending[Math.ceil(part * ascending.length) - 1] ?? 0)} ms`;
  const counted = ({ answers, failures }: Report['requests']['vip']): string => `${total(answers)} answered, ${total(failures)} failed`;
  return [
    `seed ${seed}: ${kills.agent} agents killed in ${Math.round(loadMs / 1000)} s (${kills.whileStarting} while starting), ${kills.restore} restore processes, ${kills.proxy} times a part of the proxy`,
    `kill to ready: median ${quantile(0.5)}, p99 ${quantile(0.99)}; proxy whole again: ${proxyKills.map(({ what, repairMs }) => `${what} ${Math.round(repairMs)} ms`).join(', ')}`,
    `virtual IP: ${counted(requests.vip)}; ingress: ${counted(requests.ingress)}, begun while a part of its proxy was dead: ${counted(requests.ingressWhileDead)}, in flight in one: ${counted(requests.ingressInFlight)}`,
    `from a workload: ${counted(requests.fromWorkload)}; changes: ${changes.acknowledged} acknowledged, ${changes.triedAgain} tried again, ${changes.notEnforced} not enforced at once, ${changes.probed} probed`,
  ].join('\n');
}
