/** Whether a rule's peers and ports mean a given party. Pure. */
import { bounds, contains } from '../model/address.ts';
import { selects } from '../model/label-selector.ts';
import type { CidrPeer, PolicyPeer, PolicyPort, PolicyRule, SelectorPeer } from '../model/policy.ts';
import { INGRESS_POD, labelsOfNamespace, type Flow, type NamespaceLabels, type Party, type PolicyParts, type PolicyWorkload } from './parties.ts';

export interface PeerContext {
  readonly policy: Pick<PolicyParts, 'namespace' | 'origin'>;
  readonly namespaces: NamespaceLabels;
}

/** No peers: everyone. */
export function someoneMatches(peers: readonly PolicyPeer[], party: Party, context: PeerContext): boolean {
  return peers.length === 0 || peers.some((peer) => peerMatches(peer, party, context));
}

export function peerMatches(peer: PolicyPeer, party: Party, context: PeerContext): boolean {
  if ('entity' in peer) return party.kind === peer.entity;
  if ('cidr' in peer) return cidrMatches(peer, party);
  if (party.kind === 'workload') return selectorMatches(peer, party.workload, context);
  return party.kind === 'ingress' && context.policy.origin === 'kubernetes' && selectorMatches(peer, INGRESS_POD, context);
}

/** Without a namespaceSelector only workloads of the policy's own namespace are meant. */
export function selectorMatches({ selector, namespaceSelector }: SelectorPeer, workload: PolicyWorkload, { policy, namespaces }: PeerContext): boolean {
  const inNamespace = namespaceSelector === undefined ? workload.namespace === policy.namespace : selects(namespaceSelector, labelsOfNamespace(namespaces, workload.namespace));
  return inNamespace && (selector === undefined || selects(selector, workload.labels));
}

/** No ports: all of them, of every protocol. */
export function portsMatch({ ports }: PolicyRule, flow: Flow): boolean {
  return ports.length === 0 || ports.some((port) => portMatches(port, flow));
}

function portMatches({ protocol, port, endPort }: PolicyPort, flow: Flow): boolean {
  if (protocol !== flow.protocol) return false;
  if (port === undefined) return true;
  if (typeof port === 'number') return flow.port >= port && flow.port <= (endPort ?? port);
  // A name belongs to the workload that is connected to, and only with its protocol.
  return flow.to.kind === 'workload' && flow.to.workload.ports.some((named) => named.name === port && named.protocol === protocol && named.port === flow.port);
}

function cidrMatches(peer: CidrPeer, party: Party): boolean {
  if (party.kind === 'ingress') return meansEveryone(peer);
  const ip = party.kind === 'workload' ? party.workload.ip : party.ip;
  if (ip === undefined) return meansEveryone(peer);
  return contains(peer.cidr, ip) && !(peer.except ?? []).some((range) => contains(range, ip));
}

/** The proxy passes on what strangers send, so a range admits it only when it admits every stranger; so with a party whose address is not known. */
function meansEveryone({ cidr, except = [] }: CidrPeer): boolean {
  return bounds(cidr).prefix === 0 && except.length === 0;
}
