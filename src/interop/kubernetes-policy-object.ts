/** Writes a policy as a Kubernetes NetworkPolicy object where Kubernetes can say all of it. Pure. */
import type { LabelSelector } from '../model/label-selector.ts';
import { NAMESPACE_NAME_LABEL } from '../model/namespace.ts';
import type { Policy, PolicyPeer, PolicyPort, PolicyRule } from '../model/policy.ts';
import { INGRESS_POD } from '../policy/parties.ts';
import { ORIGIN_ANNOTATION } from './kubernetes-metadata.ts';
import { NETWORK_POLICY } from './kubernetes-policy.ts';

/** Undefined where a cluster would take it for something else. */
export function kubernetesPolicyObject(policy: Policy) {
  if (!isSayable(policy)) return undefined;
  const { namespace, name, origin, selector, ingress, egress } = policy;
  return {
    ...NETWORK_POLICY,
    metadata: { name, namespace, ...(origin === 'native' ? { annotations: { [ORIGIN_ANNOTATION]: origin } } : {}) },
    spec: {
      podSelector: selector,
      policyTypes: [...(ingress === undefined ? [] : ['Ingress']), ...(egress === undefined ? [] : ['Egress'])],
      ...(ingress === undefined ? {} : { ingress: ingress.map((rule) => ruleObject(rule, 'from')) }),
      ...(egress === undefined ? {} : { egress: egress.map((rule) => ruleObject(rule, 'to')) }),
    },
  };
}

/** Kubernetes knows neither audit nor our entities, and would leave a native policy's way to the node open. */
function isSayable({ namespace, origin, mode, ingress, egress }: Policy): boolean {
  if (mode !== 'enforce' || (ingress === undefined && egress === undefined)) return false;
  const peers = [...(ingress ?? []), ...(egress ?? [])].flatMap((rule) => rule.peers);
  if (peers.some((peer) => 'entity' in peer)) return false;
  return origin === 'kubernetes' || (egress === undefined && !peers.some((peer) => mayMeanIngress(peer, namespace)));
}

/** A native policy's selectors never mean the proxy; in a cluster, where it is a pod, the same words might. */
function mayMeanIngress(peer: PolicyPeer, own: string): boolean {
  if ('cidr' in peer || 'entity' in peer) return false;
  if (peer.namespaceSelector === undefined) return own === INGRESS_POD.namespace;
  const wanted = wantedName(peer.namespaceSelector);
  return wanted === undefined || wanted === INGRESS_POD.namespace;
}

/** Its other labels may be anything, so only a name excludes a namespace. */
function wantedName({ matchLabels = {} }: LabelSelector): string | undefined {
  return matchLabels[NAMESPACE_NAME_LABEL];
}

function ruleObject({ peers, ports }: PolicyRule, side: 'from' | 'to') {
  return { ...(peers.length === 0 ? {} : { [side]: peers.map(peerObject) }), ...(ports.length === 0 ? {} : { ports: ports.map(portObject) }) };
}

function peerObject(peer: PolicyPeer) {
  if ('cidr' in peer) return { ipBlock: peer };
  if ('entity' in peer) return peer;
  const { selector, namespaceSelector } = peer;
  return { ...(namespaceSelector === undefined ? {} : { namespaceSelector }), ...(selector === undefined ? {} : { podSelector: selector }) };
}

function portObject({ protocol, ...rest }: PolicyPort) {
  return { ...rest, protocol: protocol.toUpperCase() };
}
