/**
 * SIGKILL of the agent at random moments under load, inside `clawnode sandbox`: clients ask an always-healthy service without
 * pause, others change services and workloads, and the agent, its restore process and the proxy are killed. It judges
 * nothing: it prints one JSON report of what it saw, and what store, kernel and answers hold in the end.
 */
import { appendFile, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { agentSocketPath } from '../../src/surfaces/agent-client.ts';
import { held, readHeld } from './fixture-held.ts';
import { anything, answering, invoke, runWebWorkload, SERVED_PORT, workloadAnswer } from './fixture-invoke.ts';
import { killAtRandom, readyAgain } from './fixture-killer.ts';
import { keepEchoing } from './fixture-long-lived.ts';
import { emptyLedger, mutateServices, mutateWorkloads, type Ledger } from './fixture-mutator.ts';
import { isAgent, killAll } from './fixture-processes.ts';
import { randomFrom } from './fixture-random.ts';
import { keepAsking, spread, spreadOf, type Sample, type Spread, type Target } from './fixture-requests.ts';
import { readKernel, removeOurRules, type Kernel } from './fixture-rules.ts';

const STEADY = { app: 'steady' };
const HOST_HEADER = 'steady.example.com';
/** Serves whole lines back, for as long as the connection lives. */
const ECHO = `require('net').createServer((socket) => { socket.on('error', () => {}); socket.pipe(socket); }).listen(${SERVED_PORT})`;
/** How long a released address rests; the run is shorter, or not much longer. */
const QUARANTINE_MS = 60_000;

const lines = z.array(z.string());
const named = z.object({ name: z.string(), clusterIp: z.string() });
const placed = z.object({ name: z.string(), id: z.string(), ip: z.string() });

export const report = z.object({
  loadMs: z.number(),
  kills: z.object({ agent: z.int(), whileStarting: z.int(), restore: z.int(), proxy: z.int() }),
  readyMs: z.array(z.number()),
  proxyKills: z.array(z.object({ what: z.string(), repairMs: z.number() })),
  restoreRepairMs: z.array(z.number()),
  requests: z.object({
    vip: spread,
    ingress: spread,
    /** Begun when what was killed was dead and before all of it was back. */
    ingressWhileDead: spread,
    ingressWhileDeadMs: z.array(z.number()),
    /** Begun before that and ended after the kill: those that failed were inside of what was killed. */
    ingressInFlight: spread,
    fromWorkload: spread,
    longLived: z.object({ echoes: z.int(), failure: z.string().optional() }),
  }),
  changes: z.object({
    acknowledged: z.int(),
    triedAgain: z.int(),
    notEnforced: z.int(),
    probed: z.int(),
    surprises: lines,
    handedOutTooSoon: lines,
  }),
  acknowledged: z.object({ services: z.array(named), workloads: z.array(placed), deletedServices: z.array(named), stoppedWorkloads: z.array(placed) }),
  /** Made before the load and never changed. */
  constant: z.object({ services: z.array(named), workloads: z.array(placed) }),
  held,
  starts: z.record(z.string(), z.int()),
  differences: z.object({ afterCleanRestart: lines, afterLostRules: lines }),
});
export type Report = z.output<typeof report>;

export const settings = z.object({ kills: z.int(), restoreKills: z.int(), proxyKills: z.int(), seed: z.int(), startsFile: z.string() });
export type Settings = z.output<typeof settings>;

const socketPath = agentSocketPath();

if (import.meta.main) process.stdout.write(`${JSON.stringify(await soak(settings.parse(JSON.parse(process.argv[2] ?? ''))))}\n`);

async function soak(plan: Settings): Promise<Report> {
  const { constant, vip, echo } = await prepare();
  const ingress: Target = { host: '127.0.0.1', port: 8443, hostHeader: HOST_HEADER };
  const ledger = emptyLedger();
  const stopping = new AbortController();
  const beganMs = performance.now();
  const vipStream = keepAsking(vip, { parallel: 2, pauseMs: 5 });
  const ingressStream = keepAsking(ingress, { parallel: 2, pauseMs: 5 });
  const longLived = keepEchoing(echo);
  const options = { socketPath, ledger, answering: STEADY, answeringPort: SERVED_PORT, startsFile: plan.startsFile };
  const mutating = Promise.allSettled([
    mutateServices({ ...options, random: randomFrom(plan.seed + 1) }, stopping.signal),
    mutateWorkloads({ ...options, random: randomFrom(plan.seed + 2) }, stopping.signal),
  ]);

  const { kills, readyMs, proxyKills, restoreRepairMs } = await killAtRandom({ ...plan, socketPath, ingress });
  stopping.abort();
  await mutating;
  const ingressSamples = await ingressStream.stop();
  const inFlight = (sample: Sample): boolean => proxyKills.some(({ fromMs, deadMs }) => sample.endedMs >= fromMs && sample.beganMs < deadMs);
  const whileDead = (sample: Sample): boolean => proxyKills.some(({ deadMs, toMs }) => sample.beganMs >= deadMs && sample.beganMs <= toMs);
  const ingressWhileDead = ingressSamples.filter((sample) => whileDead(sample) && !inFlight(sample));
  return {
    loadMs: performance.now() - beganMs,
    kills,
    readyMs,
    proxyKills: proxyKills.map(({ what, fromMs, toMs }) => ({ what, repairMs: toMs - fromMs })),
    restoreRepairMs,
    requests: {
      vip: spreadOf(await vipStream.stop()),
      ingress: spreadOf(ingressSamples.filter((sample) => !inFlight(sample) && !whileDead(sample))),
      ingressWhileDead: spreadOf(ingressWhileDead),
      ingressWhileDeadMs: ingressWhileDead.map((sample) => sample.endedMs - sample.beganMs),
      ingressInFlight: spreadOf(ingressSamples.filter((sample) => inFlight(sample))),
      fromWorkload: await lastTold('client'),
      longLived: longLived.stop(),
    },
    ...recordOf(ledger),
    constant,
    held: await readHeld(socketPath, join(dirname(socketPath), 'state')),
    differences: { afterCleanRestart: await restartAndCompare(), afterLostRules: await loseRulesAndCompare() },
    starts: await startsIn(plan.startsFile),
  };
}

/** What is asked all the time: two servers behind a service and an ingress, one that serves lines back, and a client inside. */
async function prepare(): Promise<{ constant: Report['constant']; vip: Target; echo: Target }> {
  const servers = [await runWebWorkload('steady-1', STEADY), await runWebWorkload('steady-2', STEADY)];
  const echoes = await invoke(workloadAnswer, 'workload.run', { name: 'echo', labels: { app: 'echo' }, command: [process.execPath, '-e', ECHO] });
  const service = z.looseObject({ name: z.string(), clusterIp: z.string() });
  const steady = await invoke(service, 'service.create', { name: 'steady', selector: STEADY, port: 80, targetPort: SERVED_PORT });
  const echo = await invoke(service, 'service.create', { name: 'echo', selector: { app: 'echo' }, port: 7, targetPort: SERVED_PORT });
  await invoke(anything, 'ingress.create', { name: 'steady', rules: [{ host: HOST_HEADER, path: '/', service: 'steady' }] });
  for (const { meshIp } of [...servers, echoes]) await answering(meshIp, { speaksHttp: meshIp !== echoes.meshIp });
  const vip: Target = { host: steady.clusterIp, port: 80 };
  const client = await invoke(workloadAnswer, 'workload.run', { name: 'client', command: insideClient(vip) });
  return {
    constant: {
      services: [steady, echo].map(({ name, clusterIp }) => ({ name, clusterIp })),
      workloads: [...servers, echoes, client].map(({ name, id, meshIp }) => ({ name, id, ip: meshIp })),
    },
    vip,
    echo: { host: echo.clusterIp, port: 7 },
  };
}

function insideClient(to: Target): string[] {
  return [process.execPath, join(import.meta.dirname, 'fixture-requests.ts'), JSON.stringify({ ...to, parallel: 1, tellEveryMs: 1000 })];
}

/** The client inside tells all its requests so far once a second; its last line is waited for until it is one of now. */
async function lastTold(name: string): Promise<Spread> {
  await delay(1500);
  const { lines: told } = await invoke(z.looseObject({ lines: z.array(z.string()) }), 'workload.logs', { name, tail: 1 });
  return spread.parse(JSON.parse(told[0] ?? ''));
}

function recordOf(ledger: Ledger): Pick<Report, 'changes' | 'acknowledged'> {
  const { acknowledged, triedAgain, notEnforced, probed, surprises } = ledger;
  return {
    changes: { acknowledged, triedAgain, notEnforced, probed, surprises, handedOutTooSoon: handedOutTooSoon(ledger) },
    acknowledged: {
      services: [...ledger.services].map(([name, { clusterIp }]) => ({ name, clusterIp })),
      workloads: [...ledger.workloads].map(([name, workload]) => ({ name, ...workload })),
      deletedServices: ledger.deletedServices,
      stoppedWorkloads: ledger.stoppedWorkloads,
    },
  };
}

/** Addresses that had an owner when they were given out again, or had been released less than the quarantine before. */
function handedOutTooSoon({ given, released }: Ledger): string[] {
  return given.flatMap(({ ip, owner, atMs }) => {
    const before = given.findLast((other) => other.ip === ip && other.atMs < atMs);
    if (before === undefined) return [];
    const releasedMs = released.find((release) => release.ip === ip && release.atMs > before.atMs && release.atMs < atMs)?.atMs;
    if (releasedMs !== undefined && atMs - releasedMs >= QUARANTINE_MS - 1000) return [];
    return [`${ip}: ${before.owner}, then ${owner} ${releasedMs === undefined ? 'without a release' : `${Math.round(atMs - releasedMs)} ms after its release`}`];
  });
}

/** What a stop in good order and a new start change in the kernel. */
async function restartAndCompare(): Promise<string[]> {
  const before = await readKernel();
  await readyAgain(socketPath, await killAll(isAgent, 'SIGTERM'));
  return differences(before, await readKernel());
}

/** The same when the new agent finds none of its rules and has to write them all. */
async function loseRulesAndCompare(): Promise<string[]> {
  const before = await readKernel();
  // A stopped agent can not repair what is taken away, and is killed before it goes on.
  const pids = await killAll(isAgent, 'SIGSTOP');
  await removeOurRules();
  await killAll(isAgent, 'SIGKILL');
  await readyAgain(socketPath, pids);
  return differences(before, await readKernel());
}

function differences(before: Kernel, after: Kernel): string[] {
  const flat = ({ rules, ...rest }: Kernel): string[] => [
    ...Object.entries(rules).map(([chain, list]) => `${chain}: ${list.join(' | ')}`),
    ...Object.entries(rest).map(([kind, list]) => `${kind}: ${list.join(' | ')}`),
  ];
  const [old, now] = [flat(before), flat(after)];
  return [...old.filter((line) => !now.includes(line)).map((line) => `- ${line}`), ...now.filter((line) => !old.includes(line)).map((line) => `+ ${line}`)];
}

async function startsIn(file: string): Promise<Record<string, number>> {
  await appendFile(file, '');
  const starts: Record<string, number> = {};
  for (const name of (await readFile(file, 'utf8')).split('\n')) if (name !== '') starts[name] = (starts[name] ?? 0) + 1;
  return starts;
}
