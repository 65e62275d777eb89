/** (b) One `service.create` beside 0, 1,000 and 5,000 services against the same payload through a forked iptables-restore. */
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import { z } from 'zod';
import { run, start } from '../src/drivers/exec.ts';
import { addNetns, createService, deleteService, fill, startAgent, type BenchAgent } from './agent.ts';
import { inRounds, median, short, type Bench, type Figure } from './figures.ts';
import type { PeerRequest } from './peer-worker.ts';
import { compileServices, recordPayloads, setsOf, type Recorder } from './payloads.ts';

const SIZES = [0, 1000, 5000] as const;
const CREATES_PER_ROUND = 40;

/** An agent and, in another network namespace with the same rules, its peer. */
interface Site {
  readonly size: number;
  readonly agent: BenchAgent;
  readonly peer: Peer;
  readonly recorder: Recorder;
}

interface Peer {
  /** How many milliseconds each payload took. */
  restore(how: PeerRequest['how'], payloads: readonly string[]): Promise<number[]>;
  end(): Promise<void>;
}

export const oneCreate: Bench = {
  title: 'one service.create of two endpoints, request on the socket to enforced answer, against the same payload by a forked iptables-restore --noflush',
  run: async () => {
    const sites: Site[] = [];
    for (const size of SIZES) sites.push(await openSite(size));
    const valuesOf = await inRounds(async () => {
      const values: Record<string, number> = {};
      for (const site of sites) {
        const { ours, forked, kept } = await measure(site);
        values[`agent ${site.size}`] = median(ours);
        values[`forked ${site.size}`] = median(forked);
        values[`commit ${site.size}`] = median(kept);
      }
      return values;
    });
    for (const { agent, peer } of sites) {
      await peer.end();
      await agent.stop();
    }
    return figuresOf(valuesOf);
  },
};

/** Both sides end as they began. */
async function measure({ size, agent, peer, recorder }: Site): Promise<{ ours: number[]; forked: number[]; kept: number[] }> {
  const numbers = Array.from({ length: CREATES_PER_ROUND }, (_, index) => size + index);
  const ours: number[] = [];
  const vips: string[] = [];
  for (const number of numbers) {
    const beganMs = performance.now();
    vips.push(await createService(agent, number));
    ours.push(performance.now() - beganMs);
  }
  // Recording works through all services each time, which would leave neither side anything in the CPU's caches.
  const creates: string[] = [];
  for (const [index, number] of numbers.entries()) creates.push(await recorder.add(number, vips[index] ?? ''));
  const forked = await peer.restore('forked', creates);
  const deletes: string[] = [];
  for (const number of numbers) {
    await deleteService(agent, number);
    deletes.push(await recorder.remove(number));
  }
  await peer.restore('kept', deletes);
  const kept = await peer.restore('kept', creates);
  await peer.restore('kept', deletes);
  return { ours, forked, kept };
}

async function openSite(size: number): Promise<Site> {
  const netns = `agent-${size}`;
  await addNetns(netns);
  const agent = await startAgent({ netns });
  const { initial, ...recorder } = await recordPayloads(await fill(agent, 0, size));
  const peer = await startPeer(`peer-${size}`);
  await peer.restore('kept', [initial]);
  return { size, agent, peer, recorder };
}

async function startPeer(netns: string): Promise<Peer> {
  await addNetns(netns);
  await run(['nsenter', `--net=/run/netns/${netns}`, 'ipset', 'restore'], { input: setsOf(compileServices([])) });
  const worker = [process.execPath, join(import.meta.dirname, 'peer-worker.ts')];
  const child = start(['nsenter', `--net=/run/netns/${netns}`, ...worker], { stdio: ['pipe', 'pipe', 'inherit'] });
  if (child.stdout === null) throw new Error('the peer can not be heard');
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ended = once(child, 'exit');
  return {
    restore: async (how, payloads) => {
      child.stdin?.write(`${JSON.stringify({ how, payloads } satisfies PeerRequest)}\n`);
      const { value } = await answers.next();
      return z.array(z.number()).length(payloads.length).parse(JSON.parse(value ?? ''));
    },
    end: async () => {
      child.stdin?.end();
      await ended;
    },
  };
}

function figuresOf(valuesOf: (side: string) => number[]): Figure[] {
  const beside = (size: number): Figure => {
    const [ours, forked] = [valuesOf(`agent ${size}`), valuesOf(`forked ${size}`)];
    const ratio = median(ours.map((ms, round) => ms / (forked[round] ?? NaN)));
    return { what: `beside ${size.toLocaleString('en')}: agent / forked`, measured: `${short(median(ours))} ms / ${short(median(forked))} ms`, value: ratio, atMost: 1 };
  };
  const [none, most] = [valuesOf('agent 0'), valuesOf('agent 5000')];
  const commit = (size: number): Figure => {
    const [ours, kept] = [valuesOf(`agent ${size}`), valuesOf(`commit ${size}`)];
    return {
      what: `beside ${size.toLocaleString('en')}: part of the commit in the agent's time`,
      measured: `${short(median(kept))} ms / ${short(median(ours))} ms`,
      value: median(kept.map((ms, round) => ms / (ours[round] ?? NaN))),
    };
  };
  return [
    ...SIZES.map(beside),
    ...SIZES.map(commit),
    {
      what: 'agent beside 5,000 / beside 0',
      measured: `${short(median(most))} ms / ${short(median(none))} ms`,
      value: median(most.map((ms, round) => ms / (none[round] ?? NaN))),
      atMost: 1.6,
    },
  ];
}
