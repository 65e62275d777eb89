/** Which chains decide for each workload of this node, and the sets that they refer to. Pure; one change among thousands costs what it touches. */
import type { Desired } from '../model/observed.ts';
import { selects } from '../model/label-selector.ts';
import type { Labels } from '../model/name.ts';
import type { Policy } from '../model/policy.ts';
import type { Workload } from '../model/workload.ts';
import { labelsOfNamespace, namespaceLabels, type NamespaceLabels, type PolicyParts } from '../policy/parties.ts';
import type { IpsetState } from './kernel-state.ts';
import { memberSets } from './member-sets.ts';
import { chainsOf, type PolicyChain, type Selected, type TermsOf } from './policy-chains.ts';
import { compileTerms, type Place, type Term } from './policy-terms.ts';

export const PLACES = ['ingress', 'egress', 'host'] as const;

export interface CompiledPolicies {
  /** By workload id, for each place the name of the chain to enter; nothing where no policy isolates the workload. */
  readonly entries: ReadonlyMap<string, PlaceEntries>;
  readonly chains: readonly PolicyChain[];
  readonly sets: readonly IpsetState[];
}

export type PlaceEntries = Readonly<Partial<Record<Place, string>>>;

export interface PoliciesCompiler {
  /** The whole of it, the same whatever was compiled before. */
  compile(desired: Desired): CompiledPolicies;
}

interface Local {
  readonly workload: Workload;
  readonly policies: readonly Policy[];
  readonly entries: PlaceEntries;
  readonly chains: readonly PolicyChain[];
}

export function policiesCompiler(nodeId: string): PoliciesCompiler {
  let workloads: ReadonlyMap<string, Workload> = new Map();
  let policies: ReadonlyMap<string, Policy> = new Map();
  let namespaces: NamespaceLabels = new Map();
  const sets = memberSets(() => workloads);
  const locals = new Map<string, Local>();
  const chains = new Map<string, PolicyChain>();
  const terms = new WeakMap<PolicyParts, Partial<Record<Place, readonly Term[]>>>();

  const termsOf = (policy: PolicyParts, place: Place): readonly Term[] => {
    const known = terms.get(policy) ?? {};
    terms.set(policy, known);
    known[place] ??= compileTerms(policy[place === 'ingress' ? 'ingress' : 'egress'] ?? [], place, { policy, namespaces: () => namespaces, sets });
    return known[place];
  };

  const settle = (key: string, selected: Pick<Local, 'workload' | 'policies'>, chainsFor: ChainsFor): void => {
    const made = selected.policies.length === 0 ? [] : PLACES.map((place) => ({ place, chains: chainsFor(selected, place).map((chain) => keptOnce(chains, chain)) }));
    const entries = Object.fromEntries(made.flatMap(({ place, chains: [first] }) => (first === undefined ? [] : [[place, first.name]])));
    locals.set(key, { ...selected, entries, chains: made.flatMap((each) => each.chains) });
  };

  /** What nobody refers to any more is forgotten. A set that a policy's terms still hold has to go on following its workloads. */
  const sweep = (policiesChanged: boolean): void => {
    const live = new Set([...locals.values()].flatMap((local) => local.chains.map(({ name }) => name)));
    for (const name of chains.keys()) if (!live.has(name)) chains.delete(name);
    if (!policiesChanged) return;
    const held = [...policies.values()].flatMap((policy) => Object.values(terms.get(policy) ?? {}).flat());
    sets.keepOnly(new Set(held.flatMap(({ set }) => (set === undefined ? [] : [set.members.key]))));
  };

  return {
    compile: (desired) => {
      const relabelled = namespacesThatDiffer(namespaces, desired);
      const changedPolicies = difference(policies, desired.policies);
      const changedWorkloads = difference(workloads, desired.workloads);
      workloads = new Map(desired.workloads);
      policies = new Map(desired.policies);
      if (relabelled.size > 0) namespaces = namespaceLabels(desired.namespaces.values());
      const moved = [...workloads].filter(([, { namespace }]) => relabelled.has(namespace)).map(([key]) => key);
      sets.change([...new Set([...changedWorkloads, ...moved])].map((key) => ({ key, workload: workloads.get(key) })));

      const chainsFor = rememberingChains(termsOf);
      const byNamespace = Map.groupBy(policies.values(), ({ namespace }) => namespace);
      for (const key of changedWorkloads) {
        locals.delete(key);
        const workload = workloads.get(key);
        if (workload?.node === nodeId) settle(key, { workload, policies: inOrder((byNamespace.get(workload.namespace) ?? []).filter((policy) => isSelected(workload, policy))) }, chainsFor);
      }
      const gained = [...changedPolicies].flatMap((key) => policies.get(key) ?? []);
      for (const [key, { workload, policies: selecting }] of changedPolicies.size === 0 ? [] : [...locals]) {
        if (changedWorkloads.has(key)) continue;
        const kept = selecting.filter((policy) => !changedPolicies.has(policyKey(policy)));
        const news = gained.filter((policy) => isSelected(workload, policy));
        if (kept.length !== selecting.length || news.length > 0) settle(key, { workload, policies: inOrder([...kept, ...news]) }, chainsFor);
      }
      sweep(changedPolicies.size > 0);
      return { entries: new Map([...locals.values()].map(({ workload, entries }) => [workload.id, entries])), chains: [...chains.values()], sets: setsOf(chains.values()) };
    },
  };
}

type ChainsFor = (selected: Selected, place: Place) => readonly PolicyChain[];

/** Many workloads are selected by the same policies: what these become is worked out once. */
function rememberingChains(termsOf: TermsOf): ChainsFor {
  const known = new Map<string, readonly PolicyChain[]>();
  return (selected, place) => {
    // Ports matter where they have names, which policies may use.
    const ports = selected.workload.ports.filter(({ name }) => name !== undefined).map(({ name, port, protocol }) => `${name}=${port}/${protocol}`);
    const key = [place, ...selected.policies.map(({ namespace, name }) => `${namespace}/${name}`), ...ports].join(' ');
    const made = known.get(key) ?? chainsOf(selected, place, termsOf);
    known.set(key, made);
    return made;
  };
}

/** The chain of that name that is in use already, with the rules that it has written. */
function keptOnce(chains: Map<string, PolicyChain>, chain: PolicyChain): PolicyChain {
  const known = chains.get(chain.name) ?? chain;
  chains.set(known.name, known);
  return known;
}

function setsOf(chains: Iterable<PolicyChain>): IpsetState[] {
  const sets = new Map<string, IpsetState>();
  for (const { terms } of chains) {
    for (const { set } of terms) {
      const current = set?.members.current();
      if (current !== undefined) sets.set(current.name, current);
    }
  }
  return [...sets.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

/** The keys whose records differ: they came, went or are another object. */
function difference(before: ReadonlyMap<string, unknown>, after: ReadonlyMap<string, unknown>): Set<string> {
  const changed = new Set<string>();
  for (const [key, value] of after) if (before.get(key) !== value) changed.add(key);
  for (const key of before.keys()) if (!after.has(key)) changed.add(key);
  return changed;
}

/** The namespaces whose labels are others than they were; one that is not declared has only its name. */
function namespacesThatDiffer(before: NamespaceLabels, { namespaces }: Desired): Set<string> {
  const after = namespaceLabels(namespaces.values());
  const names = new Set([...before.keys(), ...after.keys()]);
  return new Set([...names].filter((name) => !sameLabels(labelsOfNamespace(before, name), labelsOfNamespace(after, name))));
}

function sameLabels(a: Labels, b: Labels): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}

function policyKey({ namespace, name }: Policy): string {
  return `policies/${namespace}/${name}`;
}

function isSelected({ namespace, labels }: Workload, policy: Policy): boolean {
  return policy.namespace === namespace && selects(policy.selector, labels);
}

function inOrder(policies: readonly Policy[]): Policy[] {
  return policies.toSorted((a, b) => (policyKey(a) < policyKey(b) ? -1 : 1));
}
