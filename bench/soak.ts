/**
 * `npm run soak -- [--kills N] [--churn N] [--seed N]`: long runs that look for what short tests miss. Exit code 1 when
 * something was found. Nothing of the machine's own network is touched.
 */
import { parseArgs } from 'node:util';
import { soakChurn } from './churn.ts';
import { passed, table, type Figure } from './figures.ts';
import { enter, figuresFromInside } from './inside.ts';
import { soakKills } from './kills.ts';
import { describeMachine } from './machine.ts';

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '0' },
    churn: { type: 'string', default: '0' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000_000) },
    inside: { type: 'boolean', default: false },
  },
});
const [kills, operations, seed] = [countOf(values.kills), countOf(values.churn), countOf(values.seed)];

if (values.inside) {
  await enter();
  print(JSON.stringify(await soakChurn(operations, seed)));
} else {
  if (kills + operations === 0) throw new Error('say how much: --kills 300, --churn 50000');
  print(`${await describeMachine()}; seed ${seed}`);
  const found: Figure[] = [];
  if (kills > 0) found.push(...tell(`${kills} SIGKILLs under load`, await soakKills(kills, seed)));
  const args = ['--inside', '--churn', String(operations), '--seed', String(seed)];
  if (operations > 0) found.push(...tell(`${operations} changes in random order`, await figuresFromInside(import.meta.filename, args)));
  process.exitCode = found.every((one) => passed(one)) ? 0 : 1;
}

function countOf(text: string): number {
  const count = Number(text);
  if (!Number.isSafeInteger(count) || count < 0) throw new Error(`${text} is not a number of things`);
  return count;
}

function tell(title: string, figures: readonly Figure[]): readonly Figure[] {
  print(`\n${title}\n\n${table(figures)}`);
  return figures;
}

function print(words: string): void {
  process.stdout.write(`${words}\n`);
}
