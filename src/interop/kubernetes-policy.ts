/** Reads a Kubernetes NetworkPolicy object (networking.k8s.io/v1) as one of ours. What can not be enforced is refused with its path, never left out. */
import ipaddr from 'ipaddr.js';
import { z } from 'zod';
import { port } from '../model/address.ts';
import { deepestIssue } from '../model/deepest-issue.ts';
import { labelSelector } from '../model/label-selector.ts';
import { portName } from '../model/name.ts';
import { policyRule, type Policy, type PolicyPeer, type PolicyPort, type PolicyRule } from '../model/policy.ts';
import { kubernetesMetadata, ORIGIN_ANNOTATION } from './kubernetes-metadata.ts';
import { pathText, readAs, wrong as wrongIn } from './refusal.ts';

export const NETWORK_POLICY = { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy' } as const;

const kubernetesPort = z.strictObject({
  protocol: z.enum(['TCP', 'UDP', 'SCTP'], { error: 'a protocol is TCP, UDP or SCTP' }).default('TCP'),
  port: z.union([port, portName], { error: 'a port is a number from 1 to 65535 or a port name' }).optional(),
  endPort: port.optional(),
});

const ipBlock = z.strictObject({ cidr: z.string(), except: z.array(z.string()).optional() });

const kubernetesPeer = z.strictObject({ podSelector: labelSelector.optional(), namespaceSelector: labelSelector.optional(), ipBlock: ipBlock.optional() });
type KubernetesPeer = z.output<typeof kubernetesPeer>;

const rule = { ports: z.array(kubernetesPort).default([]) };
const peers = z.array(kubernetesPeer).default([]);

const networkPolicy = z.strictObject({
  // The items of a list that an API gives leave them out.
  apiVersion: z.literal(NETWORK_POLICY.apiVersion).default(NETWORK_POLICY.apiVersion),
  kind: z.literal(NETWORK_POLICY.kind).default(NETWORK_POLICY.kind),
  metadata: kubernetesMetadata,
  spec: z.strictObject({
    podSelector: labelSelector.default({}),
    policyTypes: z.array(z.enum(['Ingress', 'Egress'], { error: 'a policy type is Ingress or Egress' })).optional(),
    ingress: z.array(z.strictObject({ ...rule, from: peers })).optional(),
    egress: z.array(z.strictObject({ ...rule, to: peers })).optional(),
  }),
  // Written by a cluster, never by people: it asks for nothing.
  status: z.unknown().optional(),
});

export type ReadPolicy = Pick<Policy, 'namespace' | 'name' | 'origin' | 'selector' | 'ingress' | 'egress'>;

/** Throws INVALID_ARGUMENT with the path inside the object, e.g. `spec.ingress[0].from[1].ipBlock.cidr`. */
export function readKubernetesPolicy(object: unknown): ReadPolicy {
  const { metadata, spec } = readAs(NETWORK_POLICY, networkPolicy, object);
  const types = typesOf(spec);
  return {
    namespace: metadata.namespace,
    name: metadata.name,
    origin: originOf(metadata),
    selector: spec.podSelector,
    ...(types.includes('Ingress') ? { ingress: (spec.ingress ?? []).map(({ from, ports }, index) => readRule({ peers: from, ports, path: `spec.ingress[${index}]`, side: 'from' })) } : {}),
    ...(types.includes('Egress') ? { egress: (spec.egress ?? []).map(({ to, ports }, index) => readRule({ peers: to, ports, path: `spec.egress[${index}]`, side: 'to' })) } : {}),
  };
}

/** Ingress always, egress when the policy speaks of it; an empty list says no more than none. Rules of a direction that is not among them do nothing, as there. */
function typesOf({ policyTypes = [], egress }: z.output<typeof networkPolicy>['spec']): readonly string[] {
  return policyTypes.length > 0 ? policyTypes : ['Ingress', ...(egress === undefined ? [] : ['Egress'])];
}

interface RuleToRead {
  readonly peers: readonly KubernetesPeer[];
  readonly ports: readonly z.output<typeof kubernetesPort>[];
  readonly path: string;
  readonly side: 'from' | 'to';
}

function readRule({ peers: given, ports, path, side }: RuleToRead): PolicyRule {
  const read = policyRule.safeParse({ peers: given.map((peer, index) => readPeer(peer, `${path}.${side}[${index}]`)), ports: ports.map(readPort) });
  if (read.success) return read.data;
  const [issue] = read.error.issues;
  const deep = issue === undefined ? undefined : deepestIssue(issue);
  const [part, index = 0, ...inner] = deep?.path ?? [];
  // Of a peer only its range is checked so late; ours has no ipBlock around it.
  throw wrong(`${path}.${pathText(part === 'peers' ? [side, index, 'ipBlock', ...inner] : ['ports', index, ...inner])}`, deep?.message ?? 'the rule can not be used');
}

function readPort({ protocol, port: number, endPort }: z.output<typeof kubernetesPort>) {
  const lower = { TCP: 'tcp', UDP: 'udp', SCTP: 'sctp' } as const;
  return { protocol: lower[protocol], ...(number === undefined ? {} : { port: number }), ...(endPort === undefined ? {} : { endPort }) } satisfies PolicyPort;
}

function readPeer({ podSelector, namespaceSelector, ipBlock: block }: KubernetesPeer, path: string): PolicyPeer | { cidr: string; except?: string[] } {
  if (block !== undefined) {
    if (podSelector !== undefined || namespaceSelector !== undefined) throw wrong(path, 'ipBlock and selectors exclude each other in one peer');
    const holes = (block.except ?? []).map((range, index) => networkOf(range, `${path}.ipBlock.except[${index}]`));
    return { cidr: networkOf(block.cidr, `${path}.ipBlock.cidr`), ...(holes.length === 0 ? {} : { except: holes }) };
  }
  if (podSelector === undefined && namespaceSelector === undefined) throw wrong(path, 'a peer needs a podSelector, a namespaceSelector or an ipBlock');
  return { ...(podSelector === undefined ? {} : { selector: podSelector }), ...(namespaceSelector === undefined ? {} : { namespaceSelector }) };
}

/** Kubernetes takes a range whose host bits are set, and means the network. */
function networkOf(range: string, path: string): string {
  const [base = '', bits = '', ...rest] = range.split('/');
  if (rest.length === 0 && /^\d{1,2}$/.test(bits) && Number(bits) <= 32 && ipaddr.IPv4.isValidFourPartDecimal(base)) {
    return `${ipaddr.IPv4.networkAddressFromCIDR(range).toString()}/${Number(bits)}`;
  }
  const why = ipaddr.IPv6.isValid(base) ? 'IPv6 is not enforced: workloads have IPv4 only' : 'not an IPv4 range such as 10.0.0.0/8';
  throw wrong(path, `${JSON.stringify(range).slice(0, 60)}: ${why}`);
}

function originOf({ annotations = {} }: z.output<typeof kubernetesMetadata>): Policy['origin'] {
  const told = annotations[ORIGIN_ANNOTATION];
  if (told === undefined || told === 'kubernetes') return 'kubernetes';
  if (told === 'native') return 'native';
  throw wrong(`metadata.annotations.${ORIGIN_ANNOTATION}`, `an origin is native or kubernetes, got ${JSON.stringify(told).slice(0, 60)}`);
}

function wrong(path: string, message: string) {
  return wrongIn(NETWORK_POLICY, path, message);
}
