/** Computes the restore lines that turn what a table holds of ours into what it shall hold; pure, it never runs anything. */
import { ClawError } from '../errors.ts';
import type { Jump, Rules, TableState } from '../compile/kernel-state.ts';
import { OWN_CHAIN_PREFIX, type PlacedJump, type ProgrammedTable } from './iptables-save.ts';

/** The lines between `*table` and `COMMIT`; none when nothing differs. All of them take effect in one transaction. */
export function diffTable(programmed: ProgrammedTable, desired: TableState): string[] {
  const changed = changedChains(programmed.chains, desired.chains);
  const stale = staleChains(programmed.chains, desired.chains);
  return [
    // Declaring a chain makes it, or empties it. All come first: a rule may name only chains that exist, and a stale chain
    // can be deleted only after the rules that refer to it, those of other stale chains among them, are gone.
    ...changed.map(([name]) => `:${name} - [0:0]`),
    ...stale.map((name) => `:${name} - [0:0]`),
    ...changed.flatMap(([name, rules]) => rules.map((rule) => appended(name, rule))),
    ...diffJumps(programmed.jumps, desired.jumps),
    ...stale.map((name) => `-X ${name}`),
  ];
}

/** The table as it is once the desired state is in force. */
export function asProgrammed(desired: TableState): ProgrammedTable {
  const firstOf = new Map<string, number>();
  const jumps = desired.jumps.map(({ chain, rule, place }) => {
    // The exact place of an appended rule is never asked for.
    if (place === 'last') return { chain, rule, index: Number.MAX_SAFE_INTEGER };
    const index = firstOf.get(chain) ?? 0;
    firstOf.set(chain, index + 1);
    return { chain, rule, index };
  });
  return { chains: desired.chains, jumps };
}

function changedChains(programmed: ReadonlyMap<string, Rules>, desired: ReadonlyMap<string, Rules>): [string, Rules][] {
  if (programmed === desired) return [];
  const changed: [string, Rules][] = [];
  for (const [name, rules] of desired) {
    const known = programmed.get(name);
    // The same array means the same rules, so that one change among thousands of chains costs microseconds.
    if (known === rules || (known !== undefined && sameRules(known, rules))) continue;
    // Declared under another name, a chain of somebody else's would be emptied, and one of ours never found again.
    if (!name.startsWith(OWN_CHAIN_PREFIX)) throw new ClawError('INTERNAL', `chain ${name} does not start with ${OWN_CHAIN_PREFIX}`);
    changed.push([name, rules]);
  }
  return changed;
}

function staleChains(programmed: ReadonlyMap<string, Rules>, desired: ReadonlyMap<string, Rules>): string[] {
  return programmed === desired ? [] : [...programmed.keys()].filter((name) => !desired.has(name));
}

function sameRules(a: Rules, b: Rules): boolean {
  return a.length === b.length && a.every((rule, index) => rule === b[index]);
}

function appended(chain: string, rule: string): string {
  return rule === '' ? `-A ${chain}` : `-A ${chain} ${rule}`;
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
