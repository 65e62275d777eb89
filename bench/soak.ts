/**
 * `npm run soak -- [--kills N] [--seed N]`: long runs that look for what short tests miss. Exit code 1 when something was found.
 * Nothing of the machine's own network is touched.
 */
import { parseArgs } from 'node:util';
import { passed, table, type Figure } from './figures.ts';
import { soakKills } from './kills.ts';
import { describeMachine } from './machine.ts';

const { values } = parseArgs({ options: { kills: { type: 'string', default: '0' }, seed: { type: 'string', default: String(Date.now() % 1_000_000_000) } } });
const kills = Number(values.kills);
const seed = Number(values.seed);

print(`${await describeMachine()}; seed ${seed}`);
const found = [...(kills > 0 ? await told(`${kills} SIGKILLs under load`, soakKills(kills, seed)) : [])];
process.exitCode = found.length > 0 && found.every((one) => passed(one)) ? 0 : 1;

async function told(title: string, figures: Promise<Figure[]>): Promise<Figure[]> {
  const seen = await figures;
  print(`\n${title}\n\n${table(seen)}`);
  return seen;
}

function print(words: string): void {
  process.stdout.write(`${words}\n`);
}
