/** Looks cheaply whether the tables still hold what we wrote; it never writes, and never reads a large table whole. */
import type { Jump, Table, TableState } from '../compile/kernel-state.ts';
import { chainDamage, describeDrift, describeJumps, summary } from './iptables-drift.ts';
import { parseIptablesSave, type ProgrammedTable } from './iptables-save.ts';
import type { IptablesKernel } from './iptables.ts';

export interface TableCheck {
  readonly believed: ReadonlyMap<string, TableState>;
  readonly tables: readonly Table[];
}

/** What others changed in these tables, in words. Of a large table only our jumps and the chains that they lead to are looked at. */
export async function checkTables(kernel: Reader, { believed, tables }: TableCheck, signal?: AbortSignal): Promise<string[]> {
  const words: string[] = [];
  // One after the other: what looks every few seconds shall never be seen in the load of a machine.
  for (const table of tables) {
    const state = believed.get(table);
    if (state !== undefined) words.push(...(await checkTable(kernel, { table, state }, signal)));
  }
  return words;
}

type Reader = Pick<IptablesKernel, 'saveTable' | 'listChains' | 'smallTableRules'>;

const NOTHING: ProgrammedTable = { chains: new Map(), jumps: [] };

async function checkTable(kernel: Reader, { table, state }: { table: Table; state: TableState }, signal?: AbortSignal): Promise<string[]> {
  if (countRules(state) <= kernel.smallTableRules) {
    const held = parseIptablesSave(await kernel.saveTable(table, signal)).get(table) ?? NOTHING;
    return describeDrift({ table, held, believed: state, desired: state });
  }
  const jumps = Map.groupBy(state.jumps, (jump) => jump.chain);
  const targets = [...new Set(state.jumps.flatMap((jump) => targetsOf(jump, state)))];
  const held = await kernel.listChains({ table, chains: [...jumps.keys(), ...targets] }, signal);
  const words: string[] = [];
  for (const [chain, wanted] of jumps) {
    const found = held.get(chain);
    if (found === undefined && wanted.every(({ optional }) => optional === true)) continue;
    const rules = found ?? [];
    words.push(...describeJumps(wanted, { table, chain, rules: new Map(rules.map((rule, index) => [rule, index])) }));
  }
  const damages = targets.flatMap((name) => chainDamage(name, held.get(name), state.chains.get(name) ?? []));
  words.push(...summary(damages).map((text) => `${table}: ${text}`));
  return words;
}

function countRules({ chains }: TableState): number {
  let count = 0;
  for (const rules of chains.values()) count += rules.length;
  return count;
}

function targetsOf({ rule }: Jump, { chains }: TableState): string[] {
  const target = rule.split(' ').at(-1) ?? '';
  return chains.has(target) ? [target] : [];
}
