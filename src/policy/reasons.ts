/** Says in words why a connection may come into being or not. Pure. */
import { selectorText } from '../model/label-selector.ts';
import type { Direction, PolicyPeer, PolicyPort, PolicyRule } from '../model/policy.ts';
import type { FlowJudgement, Judgement } from './evaluate.ts';
import type { Flow, Party, PolicyParts } from './parties.ts';

/** One sentence: what denies, else what allows. */
export function reasonOf(flow: Flow, { egress, ingress }: FlowJudgement): string {
  const denied = [sentence(flow, 'egress', egress), sentence(flow, 'ingress', ingress)].filter((_, index) => [egress, ingress][index]?.verdict === 'deny');
  if (denied.length > 0) return denied.join('; ');
  if (egress.because === 'self') return 'a workload always reaches itself';
  const spoken = [
    ...(egress.isolating.length > 0 ? [sentence(flow, 'egress', egress)] : []),
    ...(ingress.isolating.length > 0 || ingress.because === 'local' ? [sentence(flow, 'ingress', ingress)] : []),
  ];
  return spoken.length > 0 ? spoken.join('; ') : `no policy isolates ${ends(flow)}`;
}

/** What one end says, e.g. `ingress rule 1 of policy shop/db allows shop/api on tcp 5432`. Rules are counted from 0, as in paths. */
export function sentence(flow: Flow, direction: Direction, judgement: Judgement): string {
  const [own, peer] = direction === 'egress' ? [flow.from, flow.to] : [flow.to, flow.from];
  const what = `${partyName(peer)} on ${flow.protocol} ${flow.port}`;
  const said: Record<Judgement['because'], () => string> = {
    self: () => 'a workload always reaches itself',
    outside: () => `${partyName(own)} is no workload: no policy selects it`,
    local: () => "the node's own processes always reach its workloads",
    node: () => `only Kubernetes policies select ${partyName(own)}, and they leave its way to the node open`,
    open: () => `no policy isolates the ${direction} of ${partyName(own)}`,
    resolver: () => `${partyName(own)} may go somewhere, so it may ask the node's resolver`,
    rule: () => `${direction}[${judgement.allowedBy?.rule ?? 0}] of policy ${policyName(judgement.allowedBy?.policy)} allows ${what}`,
    isolated: () => `${policyNames(judgement.isolating)} the ${direction} of ${partyName(own)}, and ${noRule(judgement.isolating, direction)} ${what}`,
  };
  return said[judgement.because]();
}

export function partyName(party: Party): string {
  if (party.kind === 'workload') return `${party.workload.namespace}/${party.workload.name}`;
  if (party.kind === 'address') return party.ip;
  return party.kind === 'host' ? 'the node' : 'the ingress proxy';
}

export function policyName(policy: Pick<PolicyParts, 'namespace' | 'name'> | undefined): string {
  return policy === undefined ? '' : `${policy.namespace}/${policy.name}`;
}

/** A rule in a few words, e.g. `tcp 5432 from workloads with app=api`. */
export function ruleWords({ ports, peers }: PolicyRule, direction: Direction): string {
  const side = direction === 'ingress' ? 'from' : 'to';
  return `${ports.length === 0 ? 'everything' : ports.map(portWords).join(', ')} ${side} ${peers.length === 0 ? 'everyone' : peers.map(peerWords).join(' or ')}`;
}

function portWords({ protocol, port, endPort }: PolicyPort): string {
  if (port === undefined) return `all ${protocol}`;
  return `${protocol} ${port}${endPort === undefined ? '' : `-${endPort}`}`;
}

function peerWords(peer: PolicyPeer): string {
  if ('entity' in peer) return peer.entity === 'host' ? 'the node' : 'the ingress proxy';
  if ('cidr' in peer) return `${peer.cidr}${peer.except === undefined ? '' : ` except ${peer.except.join(', ')}`}`;
  const whose = peer.selector === undefined || selectorText(peer.selector) === '' ? 'any workload' : `workloads with ${selectorText(peer.selector)}`;
  if (peer.namespaceSelector === undefined) return whose;
  const where = selectorText(peer.namespaceSelector);
  return `${whose} in ${where === '' ? 'any namespace' : `namespaces with ${where}`}`;
}

function noRule(policies: readonly PolicyParts[], direction: Direction): string {
  const rules = policies.flatMap((policy) => policy[direction] ?? []);
  const [only] = rules;
  if (only === undefined) return `no ${direction} rule allows`;
  return rules.length === 1 ? `its only rule (${ruleWords(only, direction)}) does not allow` : `none of the ${rules.length} ${direction} rules allows`;
}

const NAMES_SHOWN = 3;

function policyNames(policies: readonly PolicyParts[]): string {
  const shown = policies.slice(0, NAMES_SHOWN).map(policyName).join(', ');
  const more = policies.length > NAMES_SHOWN ? ` and ${policies.length - NAMES_SHOWN} more` : '';
  return policies.length === 1 ? `policy ${shown} isolates` : `policies ${shown}${more} isolate`;
}

function ends({ from, to }: Flow): string {
  const sides = [...(from.kind === 'workload' ? [`the egress of ${partyName(from)}`] : []), ...(to.kind === 'workload' ? [`the ingress of ${partyName(to)}`] : [])];
  return sides.length === 0 ? `${partyName(from)} or ${partyName(to)}` : sides.join(' or ');
}
