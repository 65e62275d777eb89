/** (a) 5,000 services from the state in memory to the last acknowledged commit against a bare restore of kube-proxy's layout. */
import { join } from 'node:path';
import { run } from '../src/drivers/exec.ts';
import { inRounds, median, short, type Bench, type Figure } from './figures.ts';
import { SERVICES } from './many-services-run.ts';

type Side = 'ours' | 'kube-proxy' | 'kube-proxy-jumps';

export const manyServices: Bench = {
  title: `${SERVICES.toLocaleString('en')} services of two endpoints into an empty kernel, compile included, against a bare restore of kube-proxy's layout`,
  run: async () => {
    const valuesOf = await inRounds<Side>(async () => ({ ours: await one('ours'), 'kube-proxy': await one('kube-proxy'), 'kube-proxy-jumps': await one('kube-proxy-jumps') }));
    const against = (side: Side): Pick<Figure, 'measured' | 'value'> => {
      const [ours, theirs] = [valuesOf('ours'), valuesOf(side)];
      return { measured: `${short(median(ours))} ms / ${short(median(theirs))} ms`, value: median(ours.map((ms, round) => ms / (theirs[round] ?? NaN))) };
    };
    return [
      { what: 'ours / kube-proxy, chains not yet jumped to', ...against('kube-proxy'), atMost: 0.3 },
      { what: 'ours / kube-proxy, its jumps in place', ...against('kube-proxy-jumps'), atMost: 0.3 },
    ];
  },
};

async function one(side: Side): Promise<number> {
  const argv = ['unshare', '--net', process.execPath, join(import.meta.dirname, 'many-services-run.ts'), side] as const;
  return Number((await run(argv, { timeoutMs: 180_000 })).stdout);
}
