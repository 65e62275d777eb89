/** (c) How long connect() through a virtual IP takes in the worst place of the tree, beside 10 and beside 10,000 services. */
import { z } from 'zod';
import type { Rules } from '../src/compile/kernel-state.ts';
import { SERVICES_CHAIN } from '../src/compile/services.ts';
import { bounds, cidr, ipv4, toNumber } from '../src/model/address.ts';
import { addNetns, fill, nameOf, RUNS_PROCESSES, runWorkload, startAgent, type BenchAgent } from './agent.ts';
import { inRounds, median, quantile, short, type Bench, type Figure } from './figures.ts';
import { benchService, compileServices } from './payloads.ts';
import { acceptServer, connectClient, speak, type Speaker } from './perl.ts';

const SIZES = [10, 10_000] as const;
const PORT = 8080;
/** In each round each side is asked so often for so many, in turn: 10,000 connects a side in five rounds. */
const TURNS = 8;
const CONNECTS_PER_TURN = 250;

interface Site {
  readonly agent: BenchAgent;
  readonly client: Speaker;
  readonly vip: string;
  readonly comparisons: number;
}

export const connectLatency: Bench = {
  title: 'connect() from a workload through a virtual IP to a workload, in the place of the tree behind the most comparisons',
  run: async () => {
    // Both agents before any workload: they share the folder in which network namespaces have names.
    const agents: BenchAgent[] = [];
    for (const size of SIZES) {
      await addNetns(`connect-${size}`);
      agents.push(await startAgent({ netns: `connect-${size}`, config: RUNS_PROCESSES }));
    }
    const [few, many] = [await openSite(agents[0], SIZES[0]), await openSite(agents[1], SIZES[1])];
    const valuesOf = await inRounds(async () => {
      const [besideFew, besideMany]: [number[], number[]] = [[], []];
      for (let turn = 0; turn < TURNS; turn += 1) {
        besideFew.push(...(await connects(few)));
        besideMany.push(...(await connects(many)));
      }
      return { p50few: quantile(besideFew, 0.5), p50many: quantile(besideMany, 0.5), p99few: quantile(besideFew, 0.99), p99many: quantile(besideMany, 0.99) };
    });
    for (const { agent, client } of [few, many]) {
      await client.end();
      await agent.stop();
    }
    const ratio = (part: 'p50' | 'p99'): Figure => {
      const [besideFew, besideMany] = [valuesOf(`${part}few`), valuesOf(`${part}many`)];
      return {
        what: `${part}: ${many.vip} beside 10,000 (${many.comparisons} comparisons) / ${few.vip} beside 10 (${few.comparisons})`,
        measured: `${short(median(besideMany))} µs / ${short(median(besideFew))} µs`,
        value: median(besideMany.map((us, round) => us / (besideFew[round] ?? NaN))),
        atMost: 1.3,
      };
    };
    return [ratio('p50'), ratio('p99')];
  },
};

async function connects({ client, vip }: Site): Promise<number[]> {
  return (await client.ask(`${vip} 80 ${CONNECTS_PER_TURN}`)).split(' ').map(Number);
}

async function openSite(agent: BenchAgent | undefined, size: number): Promise<Site> {
  if (agent === undefined) throw new Error('there is no agent');
  const vips = await fill(agent, 0, size);
  const server = await runWorkload(agent, 'server', acceptServer(PORT));
  const { netnsFile } = await runWorkload(agent, 'client', ['sleep', 'infinity']);
  const { chains } = compileServices([...vips].map(([number, vip]) => benchService(number, vip))).iptables.nat;
  const places = [...vips].map(([number, vip]) => ({ number, vip, comparisons: comparisonsTo(chains, vip) }));
  const worst = places.reduce((most, place) => (place.comparisons > most.comparisons ? place : most));
  const endpoints = [PORT, PORT + 1].map((port) => ({ ip: server.ip, port }));
  await agent.invoke(z.looseObject({ enforced: z.literal(true) }), 'service.update', { name: nameOf(worst.number), endpoints });
  const client = speak(netnsFile, connectClient);
  return { agent, client, vip: worst.vip, comparisons: worst.comparisons };
}

/** How many rules a packet to the virtual IP meets at most, from the root to its last DNAT. */
function comparisonsTo(chains: ReadonlyMap<string, Rules>, vip: string, chain: string = SERVICES_CHAIN): number {
  const address = toNumber(ipv4.parse(vip));
  const rules = chains.get(chain) ?? [];
  const matching = rules.map((rule) => {
    const range = /^-d (\S+) /.exec(rule)?.[1];
    const { first, last } = range === undefined ? { first: 0, last: -1 } : bounds(cidr.parse(range));
    return first <= address && address <= last;
  });
  const index = matching.lastIndexOf(true);
  const next = /-j (CLAW-\S+)$/.exec(rules[index] ?? '')?.[1];
  return index + 1 + (next === undefined ? 0 : comparisonsTo(chains, vip, next));
}
