/** (f) 1,000 workloads and 1,000 policies, 50 of which select each workload: compile, full apply, one change of a label, and a first packet behind few and many policies. */
import { join } from 'node:path';
import { z } from 'zod';
import { run } from '../src/drivers/exec.ts';
import { addNetns, RUNS_PROCESSES, runWorkload, startAgent, type BenchAgent } from './agent.ts';
import { inRounds, median, quantile, short, type Bench, type Figure } from './figures.ts';
import { acceptServer, connectClient, speak, type Speaker } from './perl.ts';
import { policyTimes } from './policies-run.ts';

const PORT = 8080;
/** Of the policies that the destination meets, so many select it: all of the few, 50 of the many. */
const SIZES = [10, 1000] as const;
const SELECTING = 50;
const TURNS = 8;
const CONNECTS_PER_TURN = 250;

export const policies: Bench = {
  title: '1,000 workloads x 1,000 policies, 50 policies selecting each workload',
  run: async () => {
    const timesOf = await inRounds(async () => policyTimes.parse(JSON.parse((await run(['unshare', '--net', process.execPath, join(import.meta.dirname, 'policies-run.ts')], { timeoutMs: 180_000 })).stdout)));
    const alone = (what: string, key: keyof z.infer<typeof policyTimes>, atMost?: number): Figure => {
      const values = timesOf(key);
      return { what, measured: values.map(short).join(', '), value: median(values), unit: ' ms', ...(atMost === undefined ? {} : { atMost }) };
    };
    return [
      alone('compile of everything', 'compileMs'),
      alone('sets and rules into an empty kernel', 'applyMs'),
      alone('one label changed: to enforced (median of 30)', 'labelMs', 50),
      ...(await firstPackets()),
    ];
  },
};

interface Site {
  readonly agent: BenchAgent;
  readonly client: Speaker;
  readonly server: string;
}

/** connect() to a workload whose ingress only the last of its rules allows. */
async function firstPackets(): Promise<Figure[]> {
  const agents: BenchAgent[] = [];
  for (const size of SIZES) {
    await addNetns(`policies-${size}`);
    agents.push(await startAgent({ netns: `policies-${size}`, config: RUNS_PROCESSES }));
  }
  const [few, many] = [await openSite(agents[0], SIZES[0]), await openSite(agents[1], SIZES[1])];
  const valuesOf = await inRounds(async () => {
    const [behindFew, behindMany]: [number[], number[]] = [[], []];
    for (let turn = 0; turn < TURNS; turn += 1) {
      behindFew.push(...(await connects(few)));
      behindMany.push(...(await connects(many)));
    }
    return { p50few: quantile(behindFew, 0.5), p50many: quantile(behindMany, 0.5), p99few: quantile(behindFew, 0.99), p99many: quantile(behindMany, 0.99) };
  });
  for (const { agent, client } of [few, many]) {
    await client.end();
    await agent.stop();
  }
  return (['p50', 'p99'] as const).map((part) => {
    const [behindFew, behindMany] = [valuesOf(`${part}few`), valuesOf(`${part}many`)];
    return {
      what: `${part} of connect(): 1,000 policies, ${SELECTING} of them selecting / 10 policies, all selecting`,
      measured: `${short(median(behindMany))} µs / ${short(median(behindFew))} µs`,
      value: median(behindMany.map((us, round) => us / (behindFew[round] ?? NaN))),
      atMost: 1.3,
    };
  });
}

async function openSite(agent: BenchAgent | undefined, size: number): Promise<Site> {
  if (agent === undefined) throw new Error('there is no agent');
  const server = await runWorkload(agent, 'server', acceptServer(PORT));
  const { netnsFile } = await runWorkload(agent, 'client', ['sleep', 'infinity']);
  const enforced = z.looseObject({ enforced: z.literal(true) });
  await agent.invoke(enforced, 'workload.update', { name: 'server', labels: { app: 'server' } });
  await agent.invoke(enforced, 'workload.update', { name: 'client', labels: { app: 'client' } });
  const selecting = Math.min(size, SELECTING);
  const manifest = Array.from({ length: size }, (_, number) => policyOf(number, selecting)).map((policy) => JSON.stringify(policy)).join('\n---\n');
  await agent.invoke(enforced, 'network.apply', { manifest });
  return { agent, client: speak(netnsFile, connectClient), server: server.ip };
}

/** All but the last of those that select the server allow only others, each another range and port. */
function policyOf(number: number, selecting: number): Record<string, unknown> {
  const app = number < selecting ? 'server' : `other-${number % 20}`;
  const last = number === selecting - 1;
  const from = last ? { podSelector: { matchLabels: { app: 'client' } } } : { ipBlock: { cidr: `10.${number % 250}.0.0/16`, except: [`10.${number % 250}.7.0/24`] } };
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: `p${number}` },
    spec: { podSelector: { matchLabels: { app } }, ingress: [{ from: [from], ports: [{ port: last ? PORT : PORT + 1 + (number % 500) }] }] },
  };
}

async function connects({ client, server }: Site): Promise<number[]> {
  return (await client.ask(`${server} ${PORT} ${CONNECTS_PER_TURN}`)).split(' ').map(Number);
}
