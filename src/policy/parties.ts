/** Who can be at either end of a connection, as policies see them. Pure, and no logic beyond naming them. */
import type { Ipv4 } from '../model/address.ts';
import type { Labels } from '../model/name.ts';
import { NAMESPACE_NAME_LABEL } from '../model/namespace.ts';
import type { Policy, PolicyProtocol } from '../model/policy.ts';

/** What a policy knows of a workload; a stored one fits, and so does one that exists only in a question. */
export interface PolicyWorkload {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Labels;
  readonly ip?: Ipv4 | undefined;
  readonly ports: readonly { readonly name?: string | undefined; readonly port: number; readonly protocol: PolicyProtocol }[];
}

export type Party =
  | { readonly kind: 'workload'; readonly workload: PolicyWorkload }
  /** The node's own processes, known by local origin. `ip` is the address of the node that is connected to, where that matters. */
  | { readonly kind: 'host'; readonly ip?: Ipv4 | undefined }
  | { readonly kind: 'ingress' }
  /** Whatever is no workload and not this node. */
  | { readonly kind: 'address'; readonly ip: Ipv4 };

export interface Flow {
  readonly from: Party;
  readonly to: Party;
  /** `other`: what has no ports, such as ICMP, which only rules without ports allow. */
  readonly protocol: PolicyProtocol | 'other';
  /** Of the destination, after any translation; 0 with `other`. */
  readonly port: number;
}

/** The parts of a policy that decide; a stored one fits. */
export type PolicyParts = Pick<Policy, 'namespace' | 'name' | 'origin' | 'selector' | 'ingress' | 'egress' | 'mode'>;

/** The labels of each namespace; one that nobody made has only its name. */
export type NamespaceLabels = ReadonlyMap<string, Labels>;

/** With the label that every namespace carries by itself. */
export function namespaceLabels(namespaces: Iterable<{ readonly name: string; readonly labels: Labels }>): NamespaceLabels {
  return new Map([...namespaces].map(({ name, labels }) => [name, { ...labels, [NAMESPACE_NAME_LABEL]: name }]));
}

export function labelsOfNamespace(namespaces: NamespaceLabels, name: string): Labels {
  return namespaces.get(name) ?? { [NAMESPACE_NAME_LABEL]: name };
}

/** The port of the node's resolver, which a workload that may go anywhere may ask. */
export const DNS_PORT = 53;

/** As what imported policies see our ingress proxy: a pod as the usual ingress controller of Kubernetes runs it. */
export const INGRESS_POD: PolicyWorkload = {
  namespace: 'ingress-nginx',
  name: 'ingress',
  labels: { 'app.kubernetes.io/name': 'ingress-nginx', 'app.kubernetes.io/instance': 'ingress-nginx', 'app.kubernetes.io/component': 'controller' },
  ports: [],
};
