/** (d) How long an agent takes from its start to ready with 5,000 services, and what it needs while nothing happens. */
import { setTimeout as delay } from 'node:timers/promises';
import { addNetns, cpuMs, fill, residentMemory, startAgent } from './agent.ts';
import { stateDirectory } from './inside.ts';
import { inRounds, median, short, type Bench, type Figure } from './figures.ts';

const SERVICES = 5000;
const SETTLE_MS = 3000;
const IDLE_MS = 10_000;

export const agentStart: Bench = {
  title: `an agent with ${SERVICES.toLocaleString('en')} services of two endpoints: start to ready, memory, idle CPU`,
  run: async () => {
    await addNetns('first');
    const stateDir = stateDirectory('start');
    const first = await startAgent({ netns: 'first', stateDir });
    await fill(first, 0, SERVICES);
    await first.stop();
    const valuesOf = await inRounds(async (round) => {
      // One that finds its rules, and one that starts after a reboot and has to write them all.
      const restarted = await startAgent({ netns: 'first', stateDir });
      await delay(SETTLE_MS);
      const before = await cpuMs(restarted.pid);
      await delay(IDLE_MS);
      const idlePercent = ((await cpuMs(restarted.pid)) - before) / (IDLE_MS / 100);
      const memory = await residentMemory(restarted.pid);
      await restarted.stop();
      // Another network stands for the reboot. The proxy of the first lives on in its own, so that only the start is like one.
      await addNetns(`empty-${round}`);
      const booted = await startAgent({ netns: `empty-${round}`, stateDir });
      await booted.stop();
      return { restartedMs: restarted.readyMs, bootedMs: booted.readyMs, memory, idlePercent };
    });
    const seconds = (side: 'restartedMs' | 'bootedMs'): Figure => ({
      what: side === 'restartedMs' ? 'start to ready, rules in place' : 'start to ready, no rules yet',
      ...rangeOf(valuesOf(side).map((ms) => ms / 1000), ' s'),
      atMost: 2,
    });
    return [
      seconds('restartedMs'),
      seconds('bootedMs'),
      { what: 'resident memory', ...rangeOf(valuesOf('memory'), ' MB'), atMost: 200 },
      { what: 'CPU while nothing happens', ...rangeOf(valuesOf('idlePercent'), ' %'), atMost: 1 },
    ];
  },
};

function rangeOf(values: readonly number[], unit: string): Pick<Figure, 'measured' | 'value' | 'unit'> {
  return { measured: `${short(Math.min(...values))} to ${short(Math.max(...values))}${unit}`, value: median(values), unit };
}
