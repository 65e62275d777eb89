/**
 * The script of the black-box run: everything by `clawnode invoke`, inside `clawnode sandbox -- node black-box-script.ts`. It
 * judges nothing: it prints one JSON report of what it observed, which the test holds against what was promised.
 */
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { z } from 'zod';
import { run } from '../../src/drivers/exec.ts';
import { anything, answering, invoke, printedBy, runWebWorkload, SERVED_PORT, workloadAnswer } from './fixture-invoke.ts';
import { askMany, keepAsking, sampleOf, spread, spreadOf, type Spread, type Target } from './fixture-requests.ts';

const NAMES = ['one', 'two', 'three'] as const;
const STOPPED = 'two';
const HOST_HEADER = 'www.example.com';
const CLIENTS = { count: 300, parallel: 4 } as const;

const serviceAnswer = z.looseObject({ clusterIp: z.string(), enforced: z.boolean() });
const endpointsAnswer = z.looseObject({ total: z.int(), healthy: z.int(), endpoints: z.array(z.looseObject({ ip: z.string(), containerId: z.string() })) });
const vipStats = z.object({ used: z.int(), free: z.int(), quarantined: z.int() });
const statusAnswer = z.looseObject({ allocator: z.looseObject({ stats: z.looseObject({ clusterIps: vipStats }) }) });
const refusal = z.object({ failure: z.string().optional(), tookMs: z.number() });

export const report = z.object({
  uidInside: z.int(),
  workloads: z.array(workloadAnswer),
  service: serviceAnswer,
  endpoints: endpointsAnswer,
  fromHost: spread,
  fromWorkload: spread,
  throughIngress: spread,
  fromWorkloadThroughIngress: spread,
  rulesWithVip: z.int(),
  stop: z.object({ answer: anything, failedAfterAnswer: spread.shape.failures, askedAfterAnswer: z.int(), begunBefore: spread }),
  afterStop: z.object({ fromHost: spread, throughIngress: spread, endpoints: endpointsAnswer }),
  deletion: z.object({
    answer: anything,
    fromHost: refusal,
    fromWorkload: spread,
    throughIngress: refusal,
    rulesWithVip: z.array(z.string()),
    setsWithVip: z.array(z.string()),
    vipsBefore: vipStats,
    vipsAfter: vipStats,
    nextVip: z.string(),
  }),
});
export type Report = z.output<typeof report>;

if (import.meta.main) process.stdout.write(`${JSON.stringify(await observe())}\n`);

async function observe(): Promise<Report> {
  const workloads = [];
  for (const name of NAMES) workloads.push(await runWebWorkload(name, { app: 'web' }));
  const service = await invoke(serviceAnswer, 'service.create', { name: 'web', selector: { app: 'web' }, port: 80, targetPort: SERVED_PORT });
  await invoke(anything, 'ingress.create', { name: 'front', rules: [{ host: HOST_HEADER, path: '/', service: 'web' }] });
  for (const { meshIp } of workloads) await answering(meshIp);

  const vip: Target = { host: service.clusterIp, port: 80 };
  const ingress: Target = { host: '127.0.0.1', port: 8443, hostHeader: HOST_HEADER };
  const gateway = z.looseObject({ gateway: z.string() }).parse(workloads[0]).gateway;
  return {
    uidInside: process.getuid?.() ?? -1,
    workloads,
    service,
    endpoints: await invoke(endpointsAnswer, 'service.endpoints', { name: 'web' }),
    fromHost: await askMany(vip, CLIENTS),
    fromWorkload: await askFromWorkload('inside-vip', vip),
    throughIngress: await askMany(ingress, CLIENTS),
    fromWorkloadThroughIngress: await askFromWorkload('inside-ingress', { ...ingress, host: gateway }),
    rulesWithVip: (await linesWith('iptables-save', service.clusterIp)).length,
    stop: await stopOne(vip),
    afterStop: {
      fromHost: await askMany(vip, CLIENTS),
      throughIngress: await askMany(ingress, CLIENTS),
      endpoints: await invoke(endpointsAnswer, 'service.endpoints', { name: 'web' }),
    },
    deletion: await deleteService(vip, ingress),
  };
}

/** Another workload, which no selector matches, is the client. */
async function askFromWorkload(name: string, to: Target): Promise<Spread> {
  const program = join(import.meta.dirname, 'fixture-requests.ts');
  const command = [process.execPath, program, JSON.stringify({ ...to, ...CLIENTS })];
  await invoke(workloadAnswer, 'workload.run', { name, labels: { app: 'client' }, command });
  return spread.parse(JSON.parse(await printedBy(name)));
}

/** Clients go on without pause while the workload is stopped: what they began after the answer must not fail. */
async function stopOne(vip: Target): Promise<Report['stop']> {
  const stream = keepAsking(vip, { parallel: 4, pauseMs: 2 });
  const answer = await invoke(anything, 'workload.stop', { name: STOPPED });
  const answeredMs = performance.now();
  await askMany(vip, { count: 100, parallel: 1 });
  const samples = await stream.stop();
  const after = samples.filter(({ beganMs }) => beganMs >= answeredMs);
  return {
    answer,
    askedAfterAnswer: after.length,
    failedAfterAnswer: spreadOf(after).failures,
    begunBefore: spreadOf(samples.filter(({ beganMs }) => beganMs < answeredMs)),
  };
}

async function deleteService(vip: Target, ingress: Target): Promise<Report['deletion']> {
  const before = await invoke(statusAnswer, 'network.status');
  const answer = await invoke(anything, 'service.delete', { name: 'web' });
  const fromHost = await refusedBy(vip);
  const throughIngress = await refusedBy(ingress);
  const fromWorkload = await askFromWorkload('inside-refused', vip);
  const after = await invoke(statusAnswer, 'network.status');
  const next = await invoke(serviceAnswer, 'service.create', { name: 'next', selector: { app: 'web' }, port: 80 });
  return {
    answer,
    fromHost,
    fromWorkload,
    throughIngress,
    rulesWithVip: await linesWith('iptables-save', vip.host),
    setsWithVip: await linesWith('ipset', vip.host, 'save'),
    vipsBefore: before.allocator.stats.clusterIps,
    vipsAfter: after.allocator.stats.clusterIps,
    nextVip: next.clusterIp,
  };
}

async function refusedBy(to: Target): Promise<z.output<typeof refusal>> {
  const { failure, beganMs, endedMs } = await sampleOf(to);
  return { ...(failure === undefined ? {} : { failure }), tookMs: endedMs - beganMs };
}

/** Lines that name the address itself, not one that merely begins like it. */
async function linesWith(program: string, ip: string, ...args: string[]): Promise<string[]> {
  const { stdout } = await run([program, ...args]);
  const whole = new RegExp(`(?<![\\d.])${ip.replaceAll('.', '\\.')}(?![\\d.])`);
  return stdout.split('\n').filter((line) => line !== '' && whole.test(line));
}
