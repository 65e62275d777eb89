/** Turns the form in which policies are written into the stored one and back. Pure; what it gives back is accepted again. */
import { ClawError } from '../errors.ts';
import { labelSelector, type LabelSelector } from '../model/label-selector.ts';
import { labels } from '../model/name.ts';
import { deepestIssue } from '../model/deepest-issue.ts';
import { policyRule, type Policy, type PolicyPeer, type PolicyPort, type PolicyRule } from '../model/policy.ts';
import type { EgressRuleForm, IngressRuleForm, PeerForm, RuleForm, SelectorForm } from '../model/policy-form.ts';

export interface PolicyForm {
  readonly selector?: SelectorForm | undefined;
  readonly ingress?: readonly IngressRuleForm[] | undefined;
  readonly egress?: readonly EgressRuleForm[] | undefined;
}

/** The parts of a policy that its form says. Throws INVALID_ARGUMENT with the path of the culprit, e.g. `ingress[1].endPort`. */
export function parsePolicyForm({ selector, ingress, egress }: PolicyForm): Pick<Policy, 'selector' | 'ingress' | 'egress'> {
  return {
    selector: parseSelector(selector ?? {}),
    ...(ingress === undefined ? {} : { ingress: ingress.map(({ from, ...rule }, index) => parseRule({ ...rule, peers: from }, { path: `ingress[${index}]`, side: 'from' })) }),
    ...(egress === undefined ? {} : { egress: egress.map(({ to, ...rule }, index) => parseRule({ ...rule, peers: to }, { path: `egress[${index}]`, side: 'to' })) }),
  };
}

/** The stored policy in the form in which it could have been written. */
export function policyForm({ selector, ingress, egress }: Pick<Policy, 'selector' | 'ingress' | 'egress'>) {
  return {
    selector: selectorForm(selector),
    ...(ingress === undefined ? {} : { ingress: ingress.map((rule) => ruleForm(rule, 'from')) }),
    ...(egress === undefined ? {} : { egress: egress.map((rule) => ruleForm(rule, 'to')) }),
  };
}

/** A plain map of labels, or the structured selector: a label's value is a string, so the two can not be taken for each other. */
export function parseSelector(form: SelectorForm): LabelSelector {
  const plain = labels.safeParse(form);
  if (plain.success) return Object.keys(plain.data).length === 0 ? {} : { matchLabels: plain.data };
  return labelSelector.parse(form);
}

export function selectorForm(selector: LabelSelector): SelectorForm {
  const { matchLabels = {}, matchExpressions = [] } = selector;
  return matchExpressions.length === 0 ? matchLabels : selector;
}

interface Place {
  readonly path: string;
  readonly side: 'from' | 'to';
}

function parseRule(form: RuleForm, place: Place): PolicyRule {
  const peers = form.peers === undefined ? [] : Array.isArray(form.peers) ? form.peers : [form.peers];
  const list = Array.isArray(form.peers);
  const rule = { ports: parsePorts(form, place), peers: peers.map(parsePeer) };
  for (const [index, peer] of peers.entries()) {
    if (place.side === 'to' && peer.entity === 'ingress') {
      const path = `${place.path}.to${list ? `[${index}]` : ''}.entity`;
      throw new ClawError('INVALID_ARGUMENT', `${path}: the ingress proxy opens connections to workloads, it is no destination`, { path, hint: 'The proxy listens on the node: allow {"to": {"entity": "host"}, "port": 8443}.' });
    }
  }
  const checked = policyRule.safeParse(rule);
  if (checked.success) return checked.data;
  const [outer] = checked.error.issues;
  const issue = outer === undefined ? undefined : deepestIssue(outer);
  const path = `${place.path}.${formPath(issue?.path ?? [], { manyPorts: form.ports !== undefined, side: place.side, list })}`;
  throw new ClawError('INVALID_ARGUMENT', `${path}: ${issue?.message ?? 'the rule can not be used'}`, { path, hint: 'docs/commands.md shows the form of a rule.' });
}

function parsePorts(form: RuleForm, { path }: Place): PolicyPort[] {
  const { port, endPort, protocol, ports } = form;
  if (ports !== undefined) {
    const beside = Object.entries({ port, endPort, protocol }).find(([, value]) => value !== undefined)?.[0];
    if (beside !== undefined) {
      throw new ClawError('INVALID_ARGUMENT', `${path}.${beside}: ${beside} and ports exclude each other`, { path: `${path}.${beside}`, hint: 'Put it into an entry of ports.' });
    }
    return ports.map((entry) => given({ ...entry, protocol: entry.protocol ?? 'tcp' }));
  }
  if (port === undefined && endPort === undefined && protocol === undefined) return [];
  return [given({ port, endPort, protocol: protocol ?? 'tcp' })];
}

function given({ protocol, port, endPort }: { protocol: PolicyPort['protocol']; port?: PolicyPort['port']; endPort?: PolicyPort['endPort'] }): PolicyPort {
  return { protocol, ...(port === undefined ? {} : { port }), ...(endPort === undefined ? {} : { endPort }) };
}

function parsePeer({ cidr, except, selector, namespaceSelector, entity }: PeerForm): PolicyPeer {
  if (cidr !== undefined) return { cidr, ...(except === undefined || except.length === 0 ? {} : { except }) };
  if (entity !== undefined) return { entity };
  return {
    ...(selector === undefined ? {} : { selector: parseSelector(selector) }),
    ...(namespaceSelector === undefined ? {} : { namespaceSelector: parseSelector(namespaceSelector) }),
  };
}

/** The stored rule's path, `peers[0].except[1]`, as the caller wrote it. */
function formPath(path: readonly PropertyKey[], { manyPorts, side, list }: { manyPorts: boolean; side: string; list: boolean }): string {
  const [part, index, ...rest] = path;
  const inner = rest.map((step) => (typeof step === 'number' ? `[${step}]` : `.${String(step)}`)).join('');
  if (part === 'ports') return manyPorts ? `ports[${String(index)}]${inner}` : inner.slice(1);
  return `${side}${list ? `[${String(index)}]` : ''}${inner}`;
}

function ruleForm({ peers, ports }: PolicyRule, side: 'from' | 'to') {
  const forms = peers.map(peerForm);
  const [only] = forms;
  const shownPeers = only === undefined ? {} : { [side]: forms.length === 1 ? only : forms };
  const [port] = ports;
  if (port === undefined) return shownPeers;
  return ports.length === 1 ? { ...port, ...shownPeers } : { ports, ...shownPeers };
}

function peerForm(peer: PolicyPeer): PeerForm {
  if ('cidr' in peer || 'entity' in peer) return peer;
  const { selector, namespaceSelector } = peer;
  return {
    ...(selector === undefined ? {} : { selector: selectorForm(selector) }),
    ...(namespaceSelector === undefined ? {} : { namespaceSelector: selectorForm(namespaceSelector) }),
  };
}
