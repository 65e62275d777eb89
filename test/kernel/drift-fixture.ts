/** Real drivers with a loop of the smallest kind, watched for drift: what is ours is made once, and repaired whenever drift asks for it. */
import { strict as assert } from 'node:assert';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { endpointLookup } from '../../src/compile/endpoints.ts';
import { compileKernel, type KernelState } from '../../src/compile/kernel.ts';
import { openConntrack } from '../../src/drivers/conntrack.ts';
import { run } from '../../src/drivers/exec.ts';
import { openIpset } from '../../src/drivers/ipset.ts';
import { parseIptablesSave, saveTables, type IptablesBackend } from '../../src/drivers/iptables-save.ts';
import { openIptables } from '../../src/drivers/iptables.ts';
import { openLinks } from '../../src/drivers/link.ts';
import { openNodeNetwork } from '../../src/drivers/node-network.ts';
import { openDriftLog, type DriftStatus } from '../../src/reconcile/drift-log.ts';
import { watchDrift, type DriftIntervals } from '../../src/reconcile/drift.ts';
import { applyInOrder } from '../../src/reconcile/order.ts';
import { aService, aWorkload, desired, node, observed } from '../compile/state.ts';
import { stdoutOf } from './namespace.ts';

export interface Watched {
  /** The services and workloads that are programmed now. */
  readonly kernel: () => KernelState;
  /** Programs other services, as the loop does after a change. */
  program(services: number): Promise<void>;
  status(): DriftStatus;
  /** How many times drift asked for a resync. */
  resyncs(): number;
  close(): Promise<void>;
}

export interface WatchedOptions {
  readonly backend: IptablesBackend;
  readonly workloads?: number;
  readonly services?: number;
  readonly intervals?: Partial<DriftIntervals>;
}

const { signal } = new AbortController();

export async function openWatched({ backend, workloads = 3, services = 2, intervals = {} }: WatchedOptions): Promise<Watched> {
  // DRIFT_LOG=1 shows what is found and done.
  const logger = pino({ level: process.env['DRIFT_LOG'] === undefined ? 'silent' : 'debug' }, pino.destination({ dest: 2, sync: true }));
  const log = openDriftLog(logger);
  const onRepaired = (words: readonly string[]): void => log.repaired(words);
  const iptables = openIptables({ backend, onRepaired });
  const ipset = openIpset({ onRepaired });
  const nodeNetwork = openNodeNetwork();
  const links = openLinks();
  const drivers = { nodeNetwork, ipset, iptables, conntrack: openConntrack() };
  let kernel = stateOf({ workloads, services });
  let resyncs = 0;
  let queue: Promise<void> = Promise.resolve();
  const applyTwice = async (networkKnown: boolean): Promise<void> => {
    try {
      await applyInOrder(drivers, { kernel, stale: [], networkKnown }, signal);
    } catch {
      // As the loop does: others may have changed what the write rested on.
      iptables.resync();
      ipset.resync();
      await applyInOrder(drivers, { kernel, stale: [], networkKnown: false }, signal);
    }
  };
  const pass = (networkKnown: boolean): Promise<void> => (queue = queue.then(() => applyTwice(networkKnown)));
  await pass(false);
  for (const link of kernel.links) await links.ensure(link);
  const drift = watchDrift({
    backend,
    iptables,
    ipset,
    nodeNetwork,
    desired: () => kernel,
    ensureLink: (link, until) => links.ensure(link, until),
    resync: () => {
      resyncs += 1;
      iptables.resync();
      ipset.resync();
      return pass(false);
    },
    log,
    logger,
    intervals,
  });
  return {
    kernel: () => kernel,
    program: async (count) => {
      kernel = stateOf({ workloads, services: count });
      await pass(true);
    },
    status: () => log.status(),
    resyncs: () => resyncs,
    close: async () => {
      await drift.close();
      await queue;
      await iptables.removeAll();
      await iptables.close();
      await ipset.removeAll();
      for (const link of kernel.links) await links.remove(link);
      await nodeNetwork.removeAll();
    },
  };
}

function stateOf({ workloads, services }: { workloads: number; services: number }): KernelState {
  const all = Array.from({ length: workloads }, (_, index) => aWorkload({ name: `w${index}`, id: index.toString(16).padStart(8, '0'), ip: `10.200.1.${index + 2}` }));
  const state = desired({
    services: Array.from({ length: services }, (_, index) =>
      aService({
        name: `s${index}`,
        selector: { app: 'web' },
        clusterIp: `10.201.${index >> 8}.${index & 255}`,
        ports: [{ port: 80, protocol: 'tcp', targetPort: 8080 }],
      }),
    ),
    workloads: all,
  });
  return compileKernel(node, state, endpointLookup(state, observed(all)));
}

/** All that is ours in the kernel as text, the place of our jumps among foreign rules included. */
export async function ownState(backend: IptablesBackend): Promise<string> {
  const [rules, sets, addresses, routes, links] = await Promise.all([
    saveTables(backend),
    stdoutOf('ipset', 'save'),
    stdoutOf('ip', '-oneline', '-4', 'addr'),
    stdoutOf('ip', '-4', 'route', 'show', 'table', 'all', 'proto', '201'),
    stdoutOf('ip', '-oneline', 'link'),
  ]);
  const tables = [...parseIptablesSave(rules)].map(([table, { chains, jumps, foreignChains }]) => [
    table,
    [...chains].toSorted(([a], [b]) => (a < b ? -1 : 1)),
    // A jump that stands last may have any number of foreign rules before it.
    jumps.filter(({ chain }) => chain !== 'DOCKER-USER').map(({ chain, rule, index }) => `${chain} ${rule.endsWith('CLAW-FOREIGN') ? 'last' : index} ${rule}`).toSorted(),
    // Whether the chain exists is others' business; where it does, our jump is its first rule.
    foreignChains?.has('DOCKER-USER') !== true || jumps.some(({ chain, index }) => chain === 'DOCKER-USER' && index === 0),
  ]);
  return [
    ...tables.filter(([, chains]) => !Array.isArray(chains) || chains.length !== 0).map((table) => JSON.stringify(table, undefined, 1)).toSorted(),
    ...sets.split('\n').filter((line) => line.includes(' CLAW-')).map((line) => line.replace(/ (?:bucketsize|initval) \S+/g, '')).toSorted(),
    ...addresses.split('\n').map((line) => line.replace(/^\d+: /, '').replace(/\s+valid_lft.*/, '')).toSorted(),
    ...routes.split('\n').map((line) => line.trim()).toSorted(),
    ...links.split('\n').map((line) => /: (clawv[^@]+).*,(?:UP)\b/.exec(line)?.[1] ?? '').toSorted(),
    readFileSync('/proc/sys/net/ipv4/ip_forward', 'utf8'),
  ].join('\n');
}

/** Runs the damage in one shell, as an operator would, and gives how long it took until all was as before, in ms. */
export async function damageAndRepair(backend: IptablesBackend, commands: string): Promise<number> {
  const before = await ownState(backend);
  await run(['sh', '-ec', commands]);
  const startedAt = performance.now();
  let now = '';
  for (;;) {
    const lookedAt = performance.now();
    now = await ownState(backend);
    if (now === before) return lookedAt - startedAt;
    if (performance.now() - startedAt > 15_000) assert.equal(now, before, `not repaired within 15 s: ${commands}`);
    await sleep(25);
  }
}

/** CPU time of this process and all that it has started, ended ones included, in ms. */
export function cpuMs(): number {
  const own = process.cpuUsage();
  const ticks = [...childrenOf(process.pid)].reduce((sum, pid) => sum + ticksOf(pid), 0) + endedChildrenTicks();
  return (own.user + own.system) / 1_000 + ticks * 10;
}

/** The living children of a process. */
export function childrenOf(parent: number): number[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number);
  return pids.filter((pid) => Number(statOf(pid)[1]) === parent);
}

export function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    return '';
  }
}

function ticksOf(pid: number): number {
  const stat = statOf(pid);
  return Number(stat[11] ?? 0) + Number(stat[12] ?? 0);
}

function endedChildrenTicks(): number {
  const stat = statOf(process.pid);
  return Number(stat[13] ?? 0) + Number(stat[14] ?? 0);
}

/** The fields of /proc/PID/stat after the name: the state, the parent, ... */
function statOf(pid: number): string[] {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return [];
  }
}
