/** SIGKILLs of the agent, its restore process and the proxy in a sandbox under load: how often something failed, and how long each took to be repaired. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { launcher, runProcess } from '../test/cli/cli-process.ts';
import { report, type Report, type Settings } from '../test/e2e/sigkill-script.ts';
import { quantile, short, type Figure } from './figures.ts';

const script = join(import.meta.dirname, '..', 'test', 'e2e', 'sigkill-script.ts');

/** A quarter of the kills hit the restore process, a quarter the proxy. */
export async function soakKills(kills: number, seed: number): Promise<Figure[]> {
  const directory = await mkdtemp(join(tmpdir(), 'claw-soak-'));
  const others = Math.floor(kills / 4);
  const plan: Settings = { kills: kills - 2 * others, restoreKills: others, proxyKills: others, seed, startsFile: join(directory, 'starts') };
  try {
    const { exitCode, stdout, stderr } = await runProcess([process.execPath, launcher, 'sandbox', '--', process.execPath, script, JSON.stringify(plan)]);
    if (exitCode !== 0) throw new Error(stderr);
    return judge(report.parse(JSON.parse(stdout)));
  } finally {
    await rm(directory, { recursive: true });
  }
}

function judge(seen: Report): Figure[] {
  const { kills, requests, changes, held } = seen;
  const sent = ({ answers, failures }: Report['requests']['vip']): string => `${total(answers) + total(failures)} requests${total(failures) === 0 ? '' : `: ${JSON.stringify(failures)}`}`;
  const failed = (what: string, spread: Report['requests']['vip']): Figure => ({ what: `failed ${what}`, measured: sent(spread), value: total(spread.failures), atMost: 0 });
  const none = (what: string, measured: string, found: readonly string[]): Figure => ({
    what,
    measured: found.length === 0 ? measured : found.slice(0, 3).join('; '),
    value: found.length,
    atMost: 0,
  });
  const repaired = (what: string, values: readonly number[]): Figure[] =>
    values.length === 0 ? [] : [{ what: `time to repair, ${what}`, measured: `p50 ${short(quantile(values, 0.5))} ms, p99 ${short(quantile(values, 0.99))} ms`, value: quantile(values, 0.5), unit: ' ms' }];
  return [
    { what: 'kills', measured: `agent ${kills.agent} (${kills.whileStarting} while starting), restore ${kills.restore}, proxy ${kills.proxy}`, value: kills.agent + kills.restore + kills.proxy },
    failed('through the virtual IP', requests.vip),
    failed('from a workload through the virtual IP', requests.fromWorkload),
    failed('through the ingress, while all of its proxy lived', requests.ingress),
    failed('through the ingress, begun while a part of its proxy was dead', requests.ingressWhileDead),
    ...waited(requests.ingressWhileDeadMs),
    // What was inside of a killed process can be answered by nobody: told, and no target.
    { what: 'cut in flight, inside of a killed process', measured: sent(requests.ingressInFlight), value: total(requests.ingressInFlight.failures) },
    none('broken long-lived connections', `${requests.longLived.echoes} lines came back`, requests.longLived.failure === undefined ? [] : [requests.longLived.failure]),
    none('lost acknowledgements', `${changes.acknowledged} acknowledged, ${changes.triedAgain} tried again`, [...lost(seen), ...changes.surprises]),
    none('duplicates', 'addresses and started workloads', duplicates(seen)),
    none('leftovers in kernel and processes', '', [...held.processes.strays, ...seen.differences.afterCleanRestart, ...seen.differences.afterLostRules]),
    ...repaired('agent: kill to the next answer', seen.readyMs),
    ...repaired('restore process: kill to the next enforced change', seen.restoreRepairMs),
    ...Object.entries(Object.groupBy(seen.proxyKills, ({ what }) => what)).flatMap(([what, list = []]) =>
      repaired(`proxy, ${list.length} times ${what}: kill until all of it is back`, list.map(({ repairMs }) => repairMs))),
  ];
}

function waited(values: readonly number[]): Figure[] {
  if (values.length === 0) return [];
  const measured = `p50 ${short(quantile(values, 0.5))} ms, p99 ${short(quantile(values, 0.99))} ms, the slowest ${short(Math.max(...values))} ms`;
  return [{ what: 'how long those took', measured, value: quantile(values, 0.99), unit: ' ms' }];
}

/** What was acknowledged and is not as it was: missing or left over, in the answers, the store or the kernel. */
function lost({ acknowledged, constant, held }: Report): string[] {
  const services = [...acknowledged.services, ...constant.services].map(({ name, clusterIp }) => `service ${name} ${clusterIp}`);
  const workloads = [...acknowledged.workloads, ...constant.workloads].map(({ name, id, ip }) => `workload ${name} ${id} ${ip}`);
  const places = { answers: held.answers, store: held.store };
  const differing = Object.entries(places).flatMap(([place, found]) => [
    ...difference(services, found.services.map(({ name, clusterIp }) => `service ${name} ${clusterIp}`), place),
    ...difference(workloads, found.workloads.map(({ name, id, ip }) => `workload ${name} ${id} ${ip}`), place),
  ]);
  const vips = [...acknowledged.services, ...constant.services].map(({ clusterIp }) => clusterIp);
  const ips = [...acknowledged.workloads, ...constant.workloads].map(({ ip }) => ip);
  return [...differing, ...difference(vips, held.kernel.vips, 'kernel'), ...difference(ips, held.kernel.workloadIps, 'kernel')];
}

function duplicates({ changes, starts, held }: Report): string[] {
  const startedAgain = Object.entries(starts).flatMap(([name, count]) => (count === 1 ? [] : [`${name} was started ${count} times`]));
  const twice = [...held.kernel.vips, ...held.kernel.workloadIps].filter((ip, index, all) => all.indexOf(ip) !== index);
  return [...changes.handedOutTooSoon, ...startedAgain, ...twice];
}

export function difference(wanted: readonly string[], found: readonly string[], place: string): string[] {
  return [...wanted.filter((item) => !found.includes(item)).map((item) => `${place} lacks ${item}`), ...found.filter((item) => !wanted.includes(item)).map((item) => `${place} also has ${item}`)];
}

function total(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}
