/** The chains that workloads' policies become: what is allowed returns, what is left at the end is denied or told. Pure. */
import { createHash } from 'node:crypto';
import { flowPlace, NFLOG_GROUP, NFLOG_PREFIXES } from '../model/flow.ts';
import type { PolicyParts, PolicyWorkload } from '../policy/parties.ts';
import type { Rules } from './kernel-state.ts';
import type { MemberSet } from './member-sets.ts';
import { RESOLVER_TERMS, resolveNamed, ruleText, type Place, type Term } from './policy-terms.ts';

/** A chain whose rules follow its sets: they are written anew only when one of these has changed. */
export interface PolicyChain {
  readonly name: string;
  readonly terms: readonly Term[];
  /** The chain that it ends in. */
  readonly end: string;
  rules(): Rules;
}

/** The terms of a policy for a place; called again for the same policy it gives the same. */
export type TermsOf = (policy: PolicyParts, place: Place) => readonly Term[];

export interface Selected {
  readonly workload: PolicyWorkload;
  /** All that select the workload, in the order of their names. */
  readonly policies: readonly PolicyParts[];
}

const LETTER = { ingress: 'I', egress: 'E', host: 'H' } as const;

/**
 * The chains that decide for a workload at a place, the one to enter first; none where nothing isolates it. Workloads with the same
 * terms share them: they are named by what they ask, not by whom they serve.
 */
export function chainsOf({ workload, policies }: Selected, place: Place, termsOf: TermsOf): PolicyChain[] {
  const direction = place === 'ingress' ? 'ingress' : 'egress';
  const isolating = policies.filter((policy) => policy[direction] !== undefined);
  const audited = isolating.filter(({ mode }) => mode === 'audit');
  const enforced = isolating.filter(({ mode }) => mode === 'enforce');
  const termsFor = (those: readonly PolicyParts[]): Term[] =>
    merged([...(place === 'host' && mayAskNames(those) ? RESOLVER_TERMS : []), ...those.flatMap((policy) => termsOf(policy, place)).flatMap((term) => resolveNamed(term, workload))]);
  const audit = audited.length > 0 && speaks(isolating, place) ? chainsFrom({ letter: `A${LETTER[place]}`, place, terms: termsFor(isolating), allow: '-j RETURN', end: { jump: '-j', chain: `CLAW-AUDIT-${place.toUpperCase()}` } }) : [];
  const enforce =
    enforced.length > 0 && speaks(enforced, place)
      ? chainsFrom({ letter: LETTER[place], place, terms: termsFor(enforced), allow: audit[0] === undefined ? '-j RETURN' : `-g ${audit[0].name}`, end: { jump: '-g', chain: `CLAW-DENY-${place.toUpperCase()}` } })
      : [];
  return [...enforce, ...audit];
}

/** Imported policies leave the way to the node open. */
function speaks(policies: readonly PolicyParts[], place: Place): boolean {
  return place !== 'host' || policies.some(({ origin }) => origin === 'native');
}

/** Who may go somewhere may ask the node's resolver where that is. */
function mayAskNames(policies: readonly PolicyParts[]): boolean {
  return policies.some(({ origin, egress = [] }) => origin === 'native' && egress.length > 0);
}

interface ChainParts {
  readonly letter: string;
  readonly place: Place;
  readonly terms: readonly Term[];
  readonly allow: string;
  readonly end: { readonly jump: '-j' | '-g'; readonly chain: string };
}

/** So many ports are looked for one rule after the other; of more, so many go into a branch. */
const PORTS = { inLine: 16, inBranch: 8 };

/**
 * The chain to enter, and its branches: with many ports a packet is led by its own to the few rules that name it. What is not bound to
 * one port stands before; a branch ends as the chain does. A goto leaves no trace, so RETURN means the same in both.
 */
function chainsFrom(parts: ChainParts): [PolicyChain, ...PolicyChain[]] {
  const byPort = Map.groupBy(parts.terms, ({ protocol, ports }) => (protocol !== undefined && ports !== undefined && /^\d+$/.test(ports) ? `${protocol} ${ports.padStart(5, '0')}` : ''));
  const inLine = byPort.get('') ?? [];
  byPort.delete('');
  if (byPort.size <= PORTS.inLine) return [chain(parts, [])];
  const branches = [...Map.groupBy([...byPort].toSorted(([a], [b]) => (a < b ? -1 : 1)), ([port]) => port.split(' ', 1)[0] ?? '')].flatMap(([protocol, ports]) =>
    inGroups(ports).map((group) => {
      const branch = chain({ ...parts, letter: `${parts.letter}B`, terms: group.flatMap(([, terms]) => terms) }, []);
      const numbers = group.map(([port]) => Number(port.split(' ')[1])).join(',');
      return { branch, lead: `-p ${protocol} -m multiport --dports ${numbers} -g ${branch.name}` };
    }),
  );
  return [chain({ ...parts, terms: inLine }, branches.map(({ lead }) => lead)), ...branches.map(({ branch }) => branch)];
}

function inGroups<Item>(items: readonly Item[]): Item[][] {
  return Array.from({ length: Math.ceil(items.length / PORTS.inBranch) }, (_, index) => items.slice(index * PORTS.inBranch, (index + 1) * PORTS.inBranch));
}

function chain({ letter, place, terms, allow, end }: ChainParts, leads: readonly string[]): PolicyChain {
  const hash = createHash('sha256').update([place, allow, end.chain, ...leads].join('\n'));
  for (const { key } of terms) hash.update(`\n${key}`);
  let written: { readonly of: readonly (string | undefined)[]; readonly rules: Rules } | undefined;
  const sets = terms.flatMap(({ set }) => (set === undefined ? [] : [set.members]));
  return {
    // Chain names hold 28 bytes.
    name: `CLAW-P${letter}-${hash.digest('hex').slice(0, 16).toUpperCase()}`,
    terms,
    end: end.chain,
    rules: () => {
      if (written === undefined || sets.some((set, index) => set.current()?.name !== written?.of[index])) written = { of: namesOf(sets), rules: rulesOf({ terms, allow, end }, leads) };
      return written.rules;
    },
  };
}

function rulesOf({ terms, allow, end }: Pick<ChainParts, 'terms' | 'allow' | 'end'>, leads: readonly string[]): Rules {
  const allowing = terms.map((term) => ruleText(term, allow)).filter((rule) => rule !== undefined);
  return [...new Set(allowing), ...leads, `${end.jump} ${end.chain}`];
}

function namesOf(sets: readonly MemberSet[]): (string | undefined)[] {
  return sets.map((set) => set.current()?.name);
}

function merged(terms: readonly Term[]): Term[] {
  return [...new Map(terms.map((term) => [term.key, term])).values()].toSorted((a, b) => (a.key < b.key ? -1 : 1));
}

/** A name for what is not allowed, and how often per second it is told at most: a flood must not fill a disk. */
const TOLD = '-m limit --limit 50/sec --limit-burst 100';

/**
 * The ends of policy chains. A denied connection is refused at once, so that whoever opened it need not wait. TCP by a reset: the
 * kernel sends one peer only one ICMP error a second, and a client whose error is withheld goes on sending SYNs.
 */
const ENDS: ReadonlyMap<string, Rules> = new Map(
  flowPlace.options.flatMap((place): [string, Rules][] => [
    [`CLAW-DENY-${place.toUpperCase()}`, [told(NFLOG_PREFIXES.deny[place]), '-p tcp -j REJECT --reject-with tcp-reset', '-j REJECT --reject-with icmp-admin-prohibited']],
    [`CLAW-AUDIT-${place.toUpperCase()}`, [told(NFLOG_PREFIXES.audit[place])]],
  ]),
);

/** Those that the chains lead to. */
export function endsOf(chains: readonly PolicyChain[]): [string, Rules][] {
  const wanted = new Set(chains.map(({ end }) => end));
  return [...ENDS].filter(([name]) => wanted.has(name));
}

function told(prefix: string): string {
  return `${TOLD} -j NFLOG --nflog-prefix "${prefix}" --nflog-group ${NFLOG_GROUP}`;
}
