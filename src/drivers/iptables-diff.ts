/** Computes what turns that which a table holds of ours into what it shall hold; pure, it never runs anything. */
import { ClawError } from '../errors.ts';
import type { Jump, Rules, TableState } from '../compile/kernel-state.ts';
import { hasPlaceFor, OWN_CHAIN_PREFIX, type PlacedJump, type ProgrammedTable } from './iptables-save.ts';

/** What has to change in one table. */
export interface TableDifference {
  /** Chains the table does not hold yet: no rule that is in force refers to them. */
  readonly created: readonly ChainRules[];
  /** Chains that are rewritten whole. */
  readonly rewritten: readonly ChainRules[];
  /** `-D` and `-I` lines for chains of ours in which a few rules come or go. */
  readonly edited: readonly string[];
  /** `-D`, `-I` and `-A` lines for foreign chains. */
  readonly jumps: readonly string[];
  /** Chains to delete. */
  readonly stale: readonly string[];
}

export interface ChainRules {
  readonly name: string;
  readonly rules: Rules;
}

export function diffTable(programmed: ProgrammedTable, desired: TableState): TableDifference {
  const { created, rewritten, edited } = changedChains(programmed.chains, desired.chains);
  return {
    created,
    rewritten,
    edited,
    jumps: diffJumps(programmed.jumps, desired.jumps.filter((jump) => hasPlaceFor(jump, programmed))),
    stale: programmed.chains === desired.chains ? [] : [...programmed.chains.keys()].filter((name) => !desired.chains.has(name)),
  };
}

/** The table as it is once the desired state is in force; `before` is what was read of it. */
export function asProgrammed(desired: TableState, before: ProgrammedTable): ProgrammedTable {
  const firstOf = new Map<string, number>();
  const jumps = desired.jumps.filter((jump) => hasPlaceFor(jump, before)).map(({ chain, rule, place }) => {
    // The exact place of an appended rule is never asked for.
    if (place === 'last') return { chain, rule, index: Number.MAX_SAFE_INTEGER };
    const index = firstOf.get(chain) ?? 0;
    firstOf.set(chain, index + 1);
    return { chain, rule, index };
  });
  return { chains: desired.chains, jumps, ...(before.foreignChains === undefined ? {} : { foreignChains: before.foreignChains }) };
}

function changedChains(programmed: ReadonlyMap<string, Rules>, desired: ReadonlyMap<string, Rules>): Pick<TableDifference, 'created' | 'rewritten' | 'edited'> {
  const created: ChainRules[] = [];
  const rewritten: ChainRules[] = [];
  const edited: string[] = [];
  if (programmed === desired) return { created, rewritten, edited };
  for (const [name, rules] of desired) {
    const known = programmed.get(name);
    // The same array means the same rules, so that one change among thousands of chains costs microseconds.
    if (known === rules || (known !== undefined && sameRules(known, rules))) continue;
    // Declared under another name, a chain of somebody else's would be emptied, and one of ours never found again.
    if (!name.startsWith(OWN_CHAIN_PREFIX)) throw new ClawError('INTERNAL', `chain ${name} does not start with ${OWN_CHAIN_PREFIX}`);
    const lines = known === undefined ? undefined : edits(name, { known, rules });
    if (lines !== undefined) edited.push(...lines);
    else (known === undefined ? created : rewritten).push({ name, rules });
  }
  return { created, rewritten, edited };
}

/** More edits than this, and the chain is rewritten: each is looked up by its number. */
const MOST_EDITS = 16;

/**
 * The lines that make `known` into `rules` rule by rule; undefined where rules have changed places, or so many came and
 * went that writing the chain anew takes no more.
 * A change that deletes no rule leaves the kernel nothing to destroy; otherwise nf_tables makes the next change wait for an RCU
 * grace period, 10 ms and more, before it loads any extension of xtables.
 */
function edits(name: string, { known, rules }: { known: Rules; rules: Rules }): string[] | undefined {
  if (Math.abs(rules.length - known.length) > MOST_EDITS) return undefined;
  const wanted = new Set(rules);
  const kept = known.filter((rule) => wanted.has(rule));
  const surplus = [...known.keys()].filter((index) => !wanted.has(known[index] ?? ''));
  // From the last to the first, so that the numbers of those before stay what they are.
  const lines = surplus.toReversed().map((index) => `-D ${name} ${index + 1}`);
  let met = 0;
  for (const [index, rule] of rules.entries()) {
    if (rule === kept[met]) met += 1;
    else lines.push(`-I ${name} ${index + 1} ${rule}`.trimEnd());
  }
  return met === kept.length && lines.length <= Math.min(MOST_EDITS, rules.length) ? lines : undefined;
}

function sameRules(a: Rules, b: Rules): boolean {
  return a.length === b.length && a.every((rule, index) => rule === b[index]);
}

function diffJumps(programmed: readonly PlacedJump[], desired: readonly Jump[]): string[] {
  const found = byChain(programmed);
  const wanted = byChain(desired);
  const chains = new Set([...found.keys(), ...wanted.keys()]);
  return [...chains].flatMap((chain) => diffJumpsOf(chain, found.get(chain) ?? [], wanted.get(chain) ?? []));
}

/** All jumps of a chain are put anew when one is out of place: the transaction hides the moment without them. */
function diffJumpsOf(chain: string, found: readonly PlacedJump[], wanted: readonly Jump[]): string[] {
  const { first, last } = places(wanted);
  const inOrder = found.toSorted((a, b) => a.index - b.index);
  const right =
    sameRules(
      inOrder.map((jump) => jump.rule),
      [...first, ...last],
    ) && first.every((_, index) => inOrder[index]?.index === index);
  if (right) return [];
  return [
    ...inOrder.map((jump) => `-D ${chain} ${jump.rule}`),
    ...first.toReversed().map((rule) => `-I ${chain} 1 ${rule}`),
    ...last.map((rule) => `-A ${chain} ${rule}`),
  ];
}

function places(jumps: readonly Jump[]): { first: string[]; last: string[] } {
  const at = (place: Jump['place']): string[] => jumps.filter((jump) => jump.place === place).map((jump) => jump.rule);
  return { first: at('first'), last: at('last') };
}

function byChain<T extends { readonly chain: string }>(jumps: readonly T[]): Map<string, T[]> {
  return Map.groupBy(jumps, (jump) => jump.chain);
}
