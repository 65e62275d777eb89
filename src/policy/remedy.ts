/** The smallest change that would turn a verdict round, as changed policies. Pure; whoever applies it gets the other verdict. */
import { cidr, port as portSchema } from '../model/address.ts';
import { NAMESPACE_NAME_LABEL } from '../model/namespace.ts';
import type { Direction, PolicyPeer, PolicyPort, PolicyRule } from '../model/policy.ts';
import type { FlowJudgement, Judgement } from './evaluate.ts';
import { INGRESS_POD, type Flow, type NamespaceLabels, type Party, type PolicyParts, type PolicyWorkload } from './parties.ts';
import { portsMatch, someoneMatches } from './peer.ts';
import { partyName, policyName, ruleWords } from './reasons.ts';

export interface Remedy {
  /** What to do, in words, with what else it would do. */
  readonly text: string;
  /** Workloads without labels can be named by none: they get one first. */
  readonly labelled: readonly { readonly workload: PolicyWorkload; readonly labels: Readonly<Record<string, string>> }[];
  /** As they would be; `isNew` ones do not exist yet. */
  readonly policies: readonly { readonly policy: PolicyParts; readonly isNew: boolean }[];
}

/** Undefined where no policy can change the verdict. */
export function remedyFor(flow: Flow, judgement: FlowJudgement, namespaces: NamespaceLabels): Remedy | undefined {
  return judgement.verdict === 'deny' ? toAllow(flow, judgement) : toDeny(flow, judgement, namespaces);
}

/** One more rule at each end that denies. */
function toAllow(flow: Flow, { egress, ingress }: FlowJudgement): Remedy | undefined {
  const ends = [{ direction: 'egress', judgement: egress } as const, { direction: 'ingress', judgement: ingress } as const].filter((end) => end.judgement.verdict === 'deny');
  const changes = ends.map(({ direction, judgement }) => addRule(flow, direction, judgement));
  const peers = ends.map(({ direction }) => (direction === 'egress' ? flow.to : flow.from));
  return {
    text: changes.map(({ text }) => text).join('; '),
    labelled: peers.flatMap((party) => (party.kind === 'workload' ? named(party.workload) : [])),
    policies: changes.map(({ policy }) => ({ policy, isNew: false })),
  };
}

function addRule(flow: Flow, direction: Direction, { isolating }: Judgement): { policy: PolicyParts; text: string } {
  const policy = nearest(flow, direction, isolating);
  const peer = peerFor(direction === 'egress' ? flow.to : flow.from, policy);
  const rule: PolicyRule = { peers: [peer], ports: flow.protocol === 'other' ? [] : [portFor(flow)] };
  return {
    policy: { ...policy, [direction]: [...(policy[direction] ?? []), rule] },
    text: `add to the ${direction} of policy ${policyName(policy)}: ${ruleWords(rule, direction)}`,
  };
}

/** The policy whose rules come nearest: one that speaks of the port, else the first. Only a native one can speak of the node. */
function nearest(flow: Flow, direction: Direction, isolating: readonly PolicyParts[]): PolicyParts {
  const able = direction === 'egress' && flow.to.kind === 'host' ? isolating.filter(({ origin }) => origin === 'native') : isolating;
  const [first] = able;
  const near = able.find((policy) => (policy[direction] ?? []).some((rule) => rule.ports.length > 0 && portsMatch(rule, flow)));
  const chosen = near ?? first;
  if (chosen === undefined) throw new RangeError('nothing isolates an end that denies');
  return chosen;
}

function portFor({ port, protocol }: Flow): PolicyPort {
  return { protocol: protocol === 'other' ? 'tcp' : protocol, port: portSchema.parse(port) };
}

function peerFor(party: Party, policy: PolicyParts): PolicyPeer {
  if (party.kind === 'address') return { cidr: cidr.parse(`${party.ip}/32`) };
  if (party.kind === 'host') return { entity: 'host' };
  if (party.kind === 'ingress') return policy.origin === 'native' ? { entity: 'ingress' } : { namespaceSelector: inNamespace(INGRESS_POD.namespace) };
  const { workload } = party;
  const labels = Object.keys(workload.labels).length === 0 ? ownLabel(workload) : workload.labels;
  return { selector: { matchLabels: labels }, ...(workload.namespace === policy.namespace ? {} : { namespaceSelector: inNamespace(workload.namespace) }) };
}

function inNamespace(name: string) {
  return { matchLabels: { [NAMESPACE_NAME_LABEL]: name } };
}

function named(workload: PolicyWorkload): Remedy['labelled'] {
  return Object.keys(workload.labels).length > 0 ? [] : [{ workload, labels: ownLabel(workload) }];
}

function ownLabel({ name }: PolicyWorkload): Record<string, string> {
  return { app: name };
}

/** Takes away the rules that allow it at one end, or isolates an end that nothing isolates. */
function toDeny(flow: Flow, { egress, ingress }: FlowJudgement, namespaces: NamespaceLabels): Remedy | undefined {
  if (ingress.because === 'rule') return withoutRules(flow, { direction: 'ingress', isolating: ingress.isolating, namespaces });
  if (egress.because === 'rule') return withoutRules(flow, { direction: 'egress', isolating: egress.isolating, namespaces });
  if (egress.because === 'resolver') return withoutEgress(egress.isolating);
  if (flow.to.kind === 'workload' && ingress.because === 'open') return isolate(flow.to.workload, 'ingress');
  if (flow.from.kind === 'workload' && (egress.because === 'open' || egress.because === 'node')) return isolate(flow.from.workload, 'egress');
  return undefined;
}

interface Rules {
  readonly direction: Direction;
  readonly isolating: readonly PolicyParts[];
  readonly namespaces: NamespaceLabels;
}

function withoutRules(flow: Flow, { direction, isolating, namespaces }: Rules): Remedy {
  const peer = direction === 'egress' ? flow.to : flow.from;
  const changes = isolating.flatMap((policy) => {
    const rules = policy[direction] ?? [];
    const allows = (rule: PolicyRule): boolean => portsMatch(rule, flow) && someoneMatches(rule.peers, peer, { policy, namespaces });
    const kept = rules.filter((rule) => !allows(rule));
    if (kept.length === rules.length) return [];
    const gone = rules.filter(allows).map((rule) => ruleWords(rule, direction)).join(', and ');
    return [{ policy: { ...policy, [direction]: kept }, text: `take from the ${direction} of policy ${policyName(policy)}: ${gone}` }];
  });
  return { text: `${changes.map(({ text }) => text).join('; ')} (whoever else these rules allow loses it too)`, labelled: [], policies: changes.map(({ policy }) => ({ policy, isNew: false })) };
}

/** The node's resolver may be asked by whoever may go anywhere. */
function withoutEgress(isolating: readonly PolicyParts[]): Remedy {
  const speaking = isolating.filter(({ origin, egress = [] }) => origin === 'native' && egress.length > 0);
  return {
    text: `take every egress rule from ${speaking.map(policyName).join(', ')} (whoever may go anywhere may ask the node's resolver)`,
    labelled: [],
    policies: speaking.map((policy) => ({ policy: { ...policy, egress: [] }, isNew: false })),
  };
}

function isolate(workload: PolicyWorkload, direction: Direction): Remedy {
  const { namespace, name } = workload;
  const labelled = named(workload);
  const matchLabels = labelled[0]?.labels ?? workload.labels;
  // A policy's name is a label of at most 63 characters.
  const policy: PolicyParts = { namespace, name: `isolate-${name}`.slice(0, 63).replace(/-$/, ''), origin: 'native', mode: 'enforce', selector: { matchLabels }, [direction]: [] };
  const whom = direction === 'ingress' ? `everyone who connects to it` : `everything that it connects to`;
  return {
    text: `isolate the ${direction} of ${partyName({ kind: 'workload', workload })} with a policy of its own (that cuts off ${whom}, and the same for others with all of its labels, until rules allow some)`,
    labelled,
    policies: [{ policy, isNew: true }],
  };
}
