/** (e) How much one TCP connection carries through a ClusterIP, and over veth pairs without any of our rules. */
import { run } from '../src/drivers/exec.ts';
import { z } from 'zod';
import { addNetns, RUNS_PROCESSES, runWorkload, startAgent } from './agent.ts';
import { inRounds, median, short, type Bench, type Figure } from './figures.ts';
import { sendClient, sinkServer, speak, type Speaker } from './perl.ts';

const PORT = 8080;
/** In each round each side sends so often for so long, in turn: which CPU does what changes from one connection to the next. */
const TURNS = 6;
const SECONDS = 0.5;

const SIDES = ['clusterIp', 'pair', 'routed', 'workloadIp'] as const;
type Side = (typeof SIDES)[number];

export const throughput: Bench = {
  title: 'one TCP connection through a ClusterIP against bare veth pairs',
  run: async () => {
    await addNetns('throughput');
    const agent = await startAgent({ netns: 'throughput', config: RUNS_PROCESSES });
    const server = await runWorkload(agent, 'server', sinkServer(PORT));
    const inside = await runWorkload(agent, 'client', ['sleep', 'infinity']);
    const service = z.looseObject({ clusterIp: z.string(), enforced: z.literal(true) });
    const { clusterIp } = await agent.invoke(service, 'service.create', { name: 'sink', port: 80, endpoints: [{ ip: server.ip, port: PORT }] });
    await buildBare();
    const [ours, pair, routed] = [speak(inside.netnsFile, sendClient), speak('/run/netns/pair-a', sendClient), speak('/run/netns/routed-a', sendClient)];
    const sinks = ['pair-b', 'routed-b'].map((netns) => speak(`/run/netns/${netns}`, sinkServer(PORT)));
    const sent = async (by: Speaker, to: string): Promise<number> => (Number(await by.ask(`${to} ${SECONDS}`)) * 8) / 1e9;
    const sides: Readonly<Record<Side, () => Promise<number>>> = {
      clusterIp: () => sent(ours, `${clusterIp} 80`),
      pair: () => sent(pair, `10.9.0.2 ${PORT}`),
      routed: () => sent(routed, `10.9.2.2 ${PORT}`),
      workloadIp: () => sent(ours, `${server.ip} ${PORT}`),
    };
    const valuesOf = await inRounds<Side>(async () => {
      const rates: Record<Side, number[]> = { clusterIp: [], pair: [], routed: [], workloadIp: [] };
      for (let turn = 0; turn < TURNS; turn += 1) for (const side of SIDES) rates[side].push(await sides[side]());
      return { clusterIp: median(rates.clusterIp), pair: median(rates.pair), routed: median(rates.routed), workloadIp: median(rates.workloadIp) };
    });
    for (const speaker of [ours, pair, routed]) await speaker.end();
    for (const sink of sinks) sink.kill();
    await agent.stop();
    const against = (side: Side): Pick<Figure, 'measured' | 'value'> => {
      const [through, bare] = [valuesOf('clusterIp'), valuesOf(side)];
      return { measured: `${short(median(through))} Gbit/s / ${short(median(bare))} Gbit/s`, value: median(through.map((rate, round) => rate / (bare[round] ?? NaN))) };
    };
    return [
      { what: 'ClusterIP / one bare veth pair', ...against('pair'), atLeast: 0.97 },
      { what: 'ClusterIP / two bare veth pairs, routed without rules', ...against('routed'), atLeast: 0.97 },
      { what: "ClusterIP / the workload's own IP, our rules", ...against('workloadIp') },
    ];
  },
};

/** Two namespaces on one pair, and two on a pair each with a router between them, as workloads have. Nothing of ours. */
async function buildBare(): Promise<void> {
  for (const netns of ['pair-a', 'pair-b', 'routed-a', 'router', 'routed-b']) await addNetns(netns);
  await join(['pair-a', '10.9.0.1'], ['pair-b', '10.9.0.2']);
  await join(['routed-a', '10.9.1.2'], ['router', '10.9.1.1']);
  await join(['routed-b', '10.9.2.2'], ['router', '10.9.2.1']);
  await run(['ip', '-n', 'routed-a', 'route', 'add', 'default', 'via', '10.9.1.1']);
  await run(['ip', '-n', 'routed-b', 'route', 'add', 'default', 'via', '10.9.2.1']);
  await run(['nsenter', '--net=/run/netns/router', 'sysctl', '-qw', 'net.ipv4.ip_forward=1']);
}

type End = readonly [netns: string, ip: string];

async function join(left: End, right: End): Promise<void> {
  const [from, to] = [`to-${right[0]}`, `to-${left[0]}`];
  await run(['ip', '-n', left[0], 'link', 'add', from, 'mtu', '1420', 'type', 'veth', 'peer', 'name', to, 'mtu', '1420', 'netns', right[0]]);
  for (const [[netns, ip], link] of [[left, from], [right, to]] as const) {
    await run(['ip', '-n', netns, 'addr', 'add', `${ip}/24`, 'dev', link]);
    await run(['ip', '-n', netns, 'link', 'set', link, 'up']);
  }
}
