/** Says in words what others changed among the rules of ours; pure, it never runs anything. */
import type { Jump, Rules, TableState } from '../compile/kernel-state.ts';
import { hasPlaceFor, OWN_CHAIN_PREFIX, type ProgrammedTable } from './iptables-save.ts';

export interface TableDrift {
  readonly table: string;
  /** What was read from the kernel. */
  readonly held: ProgrammedTable;
  /** What we had written last. */
  readonly believed: TableState;
  /** What we are about to write: where that is something else than what was believed, a difference may be of our own making. */
  readonly desired: TableState;
}

/** One sentence per kind of damage, e.g. `filter FORWARD: jump to CLAW-NETPOL was missing`; none when all is as we left it. */
export function describeDrift({ table, held, believed, desired }: TableDrift): string[] {
  const names = [...desired.chains.keys()].filter((name) => sameRules(believed.chains.get(name), desired.chains.get(name)));
  const damaged = names.flatMap((name) => chainDamage(name, held.chains.get(name), desired.chains.get(name) ?? []));
  const unknown = [...held.chains.keys()].filter((name) => !believed.chains.has(name) && !desired.chains.has(name));
  const jumps = desired.jumps.filter((jump) => hasPlaceFor(jump, held) && believed.jumps.some((other) => sameJump(jump, other)));
  const unplaced = [...Map.groupBy(jumps, ({ chain }) => chain)].flatMap(([chain, wanted]) => describeJumps(wanted, { table, chain, rules: heldRules(held, chain) }));
  const count = names.length + jumps.length;
  if (count > 1 && held.chains.size === 0 && held.jumps.length === 0) return [`${table}: all chains and jumps of ours were missing`];
  return [
    ...unplaced,
    ...summary([...damaged, ...unknown.map((name) => ({ name, what: 'was none of ours' }))]).map((words) => `${table}: ${words}`),
  ];
}

/** What the kernel holds in one chain that is not ours: the rules of ours in it, each with its index among all. */
export interface PlacedRules {
  readonly table: string;
  readonly chain: string;
  readonly rules: ReadonlyMap<string, number>;
}

/** `wanted` are all jumps of ours in this one chain. */
export function describeJumps(wanted: readonly Jump[], { table, chain, rules }: PlacedRules): string[] {
  const say = (jump: Jump, what: string): string => `${table} ${chain}: jump to ${targetOf(jump)} ${what}`;
  const missing = wanted.filter(({ rule }) => !rules.has(rule)).map((jump) => say(jump, 'was missing'));
  if (missing.length > 0) return missing;
  const first = wanted.filter(({ place }) => place === 'first');
  return first.filter(({ rule }, index) => rules.get(rule) !== index).map((jump) => say(jump, 'was not in its place at the front'));
}

/** What became of one chain of ours; `held` is undefined when it does not exist. */
export function chainDamage(name: string, held: Rules | undefined, wanted: Rules): ChainDamage[] {
  if (held === undefined) return [{ name, what: 'was missing' }];
  if (sameRules(held, wanted)) return [];
  return [{ name, what: held.length === 0 ? 'was empty' : held.length < wanted.length ? 'had lost rules' : 'held other rules' }];
}

export interface ChainDamage {
  readonly name: string;
  readonly what: string;
}

/** So many chains are named each by itself. */
const MOST_NAMED = 3;

/** One part per kind of damage, so that a flushed table of thousands of chains is told in a line. */
export function summary(damages: readonly ChainDamage[]): string[] {
  return [...Map.groupBy(damages, ({ what }) => what)].flatMap(([what, group]) => {
    const named = group.slice(0, MOST_NAMED).map(({ name }) => `chain ${name}`);
    return group.length <= MOST_NAMED ? named.map((chain) => `${chain} ${what}`) : [`${group.length} chains, ${named[0]} among them, ${what.replace(/^was/, 'were')}`];
  });
}

function heldRules({ jumps }: ProgrammedTable, chain: string): Map<string, number> {
  return new Map(jumps.filter((jump) => jump.chain === chain).map(({ rule, index }) => [rule, index]));
}

function sameJump(a: Jump, b: Jump): boolean {
  return a.chain === b.chain && a.rule === b.rule && a.place === b.place;
}

function sameRules(a: Rules | undefined, b: Rules | undefined): boolean {
  if (a === b) return true;
  return a !== undefined && b !== undefined && a.length === b.length && a.every((rule, index) => rule === b[index]);
}

function targetOf({ rule }: Jump): string {
  return new RegExp(`-[jg] (${OWN_CHAIN_PREFIX}\\S+)$`).exec(rule)?.[1] ?? 'a chain of ours';
}
