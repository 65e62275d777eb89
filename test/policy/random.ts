/** Random policies with workloads, namespaces and probes, made so that selectors, ranges and port names often meet; owns no expectation. */
import * as fc from 'fast-check';
import type { z } from 'zod';
import type { simulateInput } from '../../tools/reach.ts';

type GivenSimulation = z.input<typeof simulateInput>;
type GivenWorkload = NonNullable<GivenSimulation['workloads']>[number];
type GivenProbe = NonNullable<GivenSimulation['probes']>[number];

interface RandomState {
  readonly namespaces: NonNullable<GivenSimulation['namespaces']>;
  readonly workloads: readonly GivenWorkload[];
  /** Addresses to ask about; one may be that of a workload. */
  readonly outside: readonly string[];
  readonly policies: readonly Record<string, unknown>[];
}

const NAME_LABEL = 'kubernetes.io/metadata.name';
const namespaceName = fc.constantFrom('default', 'default', 'red', 'red', 'blue');
/** `ghost` has no workloads. */
const policyNamespace = fc.constantFrom('default', 'default', 'default', 'red', 'red', 'red', 'blue', 'ghost');
/** `constructor` is on every plain object without being a label. */
const key = fc.constantFrom('app', 'app', 'tier', 'tier', 'example.com/zone', 'constructor');
const value = fc.constantFrom('a', 'a', 'b', 'b', '');
const labels = fc.dictionary(key, value, { maxKeys: 3 });
const protocol = fc.constantFrom('tcp' as const, 'udp' as const, 'sctp' as const);
const PORTS = [1, 79, 80, 81, 443, 8080, 65_535] as const;
const portNumber = fc.constantFrom(...PORTS);
const portName = fc.constantFrom('web', 'dns', 'metrics');
/** Neighbours, and both sides of the borders of the ranges below; the last ones are mostly outside. */
const ADDRESSES = ['10.0.0.0', '10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.127', '10.0.0.128', '10.0.0.255', '10.0.1.0', '10.255.255.255', '11.0.0.0', '127.255.255.255', '128.0.0.0', '192.168.7.9', '255.255.255.255'] as const;
const address = fc.constantFrom(...ADDRESSES);
const PREFIXES = [0, 1, 7, 8, 16, 24, 25, 30, 31, 32] as const;

/** Without the probes: they follow from it, and would bury a counterexample. */
export const randomState: fc.Arbitrary<RandomState> = fc
  .record({
    namespaces: fc.uniqueArray(fc.record({ name: namespaceName, labels: fc.dictionary(fc.constantFrom('app', 'team', NAME_LABEL), value, { maxKeys: 2 }) }), { selector: ({ name }) => name, maxLength: 3 }),
    workloads: fc.uniqueArray(fc.record({ namespace: namespaceName, name: fc.constantFrom('w1', 'w2', 'w3'), labels, ports: workloadPorts() }), {
      selector: ({ namespace, name }) => `${namespace}/${name}`,
      minLength: 1,
      maxLength: 6,
    }),
    addresses: fc.uniqueArray(fc.option(address, { nil: undefined, freq: 8 }), { minLength: 6, maxLength: 6, comparator: (a, b) => a !== undefined && a === b }),
    outside: fc.uniqueArray(address, { minLength: 2, maxLength: 3 }),
    policies: fc.array(fc.oneof(kubernetesPolicy(), nativePolicy()), { maxLength: 7, size: 'max' }),
    order: fc.infiniteStream(fc.boolean()).map((stream) => stream.next().value),
  })
  .map(({ namespaces, workloads, addresses, outside, policies, order }) => {
    const placed = workloads.map((workload, index) => ({ ...workload, ...(addresses[index] === undefined ? {} : { ip: addresses[index] }) }));
    const named = policies.map((make, index) => make(`p${index}`));
    return { namespaces, workloads: placed, outside, policies: order ? named : named.toReversed() };
  });

/** Everyone to everyone on every number, and on every name that the destination has. */
export function probesOf({ workloads, outside }: RandomState): GivenProbe[] {
  const ends = [...workloads.map(({ namespace = 'default', name }) => `${namespace}/${name}`), ...outside];
  const numbered = ends.flatMap((from) => ends.flatMap((to) => (['tcp', 'udp', 'sctp'] as const).flatMap((of) => PORTS.map((port) => ({ from, to, port, protocol: of })))));
  const byName = workloads.flatMap(({ namespace = 'default', name, ports = [] }) =>
    ends.flatMap((from) => ports.flatMap(({ name: port, protocol: of }) => (port === undefined ? [] : [{ from, to: `${namespace}/${name}`, port, ...(of === undefined ? {} : { protocol: of }) }]))),
  );
  return [...numbered, ...byName];
}

function workloadPorts() {
  const one = fc.record({ name: portName, port: portNumber, protocol }, { requiredKeys: ['port'] });
  return fc.uniqueArray(one, { selector: ({ name, port }) => name ?? port, maxLength: 3 });
}

function expressions(keys: fc.Arbitrary<string>, values: fc.Arbitrary<string>) {
  const compared = fc.record({ key: keys, operator: fc.constantFrom('In', 'NotIn'), values: fc.uniqueArray(values, { minLength: 1, maxLength: 2 }) });
  return fc.array(fc.oneof(compared, fc.record({ key: keys, operator: fc.constantFrom('Exists', 'DoesNotExist') })), { maxLength: 2 });
}

function selector() {
  return fc.oneof({ weight: 2, arbitrary: fc.constant({}) }, { weight: 3, arbitrary: fc.record({ matchLabels: fc.dictionary(key, value, { maxKeys: 1 }), matchExpressions: expressions(key, value) }, { requiredKeys: [] }) });
}

function namespaceSelector() {
  const keys = fc.constantFrom('app', 'team', NAME_LABEL);
  const values = fc.constantFrom('a', 'b', 'default', 'red', 'blue', 'ghost');
  const filled = fc.record({ matchLabels: fc.dictionary(keys, values, { maxKeys: 1 }), matchExpressions: expressions(keys, values) }, { requiredKeys: [] });
  return fc.oneof(fc.constant({}), fc.constant({ matchLabels: { [NAME_LABEL]: 'red' } }), filled);
}

/** A range around one of the addresses, less ranges in it, which may lie in each other. */
function block() {
  return fc.tuple(address, fc.constantFrom(...PREFIXES), fc.array(fc.tuple(address, fc.constantFrom(...PREFIXES)), { maxLength: 3 })).map(([base, prefix, holes]) => {
    const cidr = rangeAround(base, prefix);
    const except = holes.filter(([hole, bits]) => bits > prefix && rangeAround(hole, prefix) === cidr).map(([hole, bits]) => rangeAround(hole, bits));
    return except.length === 0 ? { cidr } : { cidr, except };
  });
}

function rangeAround(base: string, prefix: number): string {
  const octets = base.split('.').map((octet, index) => {
    const bits = Math.min(8, Math.max(0, prefix - 8 * index));
    return Number(octet) & (0xff << (8 - bits));
  });
  return `${octets.map((octet) => octet & 0xff).join('.')}/${prefix}`;
}

/** `null` in Kubernetes is as good as the key left out. */
function orNull<T>(arbitrary: fc.Arbitrary<T>) {
  return fc.option(arbitrary, { nil: null, freq: 12 });
}

function numberedPort() {
  return fc.tuple(portNumber, fc.option(portNumber, { nil: undefined, freq: 2 })).map(([port, end]) => (end === undefined ? { port } : { port: Math.min(port, end), endPort: Math.max(port, end) }));
}

function kubernetesPolicy() {
  const kubernetesProtocol = fc.constantFrom({}, { protocol: 'TCP' }, { protocol: 'UDP' }, { protocol: 'SCTP' }, { protocol: null });
  const portEntry = fc.tuple(kubernetesProtocol, fc.oneof(numberedPort(), portName.map((port) => ({ port })), fc.constant({}), fc.constant({ port: null, endPort: null }))).map(([of, port]) => ({ ...of, ...port }));
  const selectors = fc.oneof(
    selector().map((podSelector) => ({ podSelector })),
    namespaceSelector().map((chosen) => ({ namespaceSelector: chosen, podSelector: null })),
    fc.record({ podSelector: selector(), namespaceSelector: namespaceSelector() }),
  );
  const peer = fc.oneof({ weight: 3, arbitrary: selectors }, { weight: 2, arbitrary: block().map((ipBlock) => ({ ipBlock })) });
  const peers = orNull(fc.array(peer, { maxLength: 3 }));
  const ports = orNull(fc.array(portEntry, { maxLength: 3 }));
  const rules = (side: 'from' | 'to') => orNull(fc.array(fc.record({ [side]: peers, ports }, { requiredKeys: [] }), { maxLength: 3 }));
  const policyTypes = orNull(fc.constantFrom([], ['Ingress'], ['Egress'], ['Ingress', 'Egress'], ['Egress', 'Ingress']));
  const spec = fc.record({ podSelector: selector(), policyTypes, ingress: rules('from'), egress: rules('to') }, { requiredKeys: ['podSelector'] });
  return fc.tuple(policyNamespace, fc.boolean(), spec).map(([namespace, told, given]) => (name: string) => ({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: told || namespace !== 'default' ? { name, namespace } : { name },
    spec: given,
  }));
}

function nativePolicy() {
  const nativeSelector = fc.oneof(fc.dictionary(key, value, { maxKeys: 1 }), selector());
  const nativeNamespaces = fc.oneof(namespaceSelector(), fc.constantFrom({ team: 'a' }, { [NAME_LABEL]: 'blue' }));
  const portEntry = fc.oneof(
    fc.tuple(numberedPort(), fc.constantFrom({}, { protocol: 'tcp' }, { protocol: 'udp' })).map(([port, of]) => ({ ...port, ...of })),
    fc.record({ port: portName, protocol }, { requiredKeys: ['port'] }),
    fc.record({ protocol }),
  );
  const peer = (entities: readonly { entity: string }[]) => fc.oneof(
    { weight: 3, arbitrary: nativeSelector.map((chosen) => ({ selector: chosen })) },
    { weight: 2, arbitrary: nativeNamespaces.map((chosen) => ({ namespaceSelector: chosen })) },
    { weight: 2, arbitrary: fc.record({ selector: nativeSelector, namespaceSelector: nativeNamespaces }) },
    { weight: 3, arbitrary: block() },
    { weight: 1, arbitrary: fc.constantFrom(...entities) },
  );
  const oneOrMore = <T>(one: fc.Arbitrary<T>) => fc.oneof(one, fc.array(one, { minLength: 1, maxLength: 3 }));
  const peers = { from: oneOrMore(peer([{ entity: 'host' }, { entity: 'ingress' }])), to: oneOrMore(peer([{ entity: 'host' }])) };
  const ports = fc.oneof(fc.constant({}), portEntry, fc.array(portEntry, { minLength: 1, maxLength: 3 }).map((list) => ({ ports: list })));
  const rules = (side: 'from' | 'to') => fc.array(fc.tuple(fc.record({ [side]: peers[side] }, { requiredKeys: [] }), ports).map(([peersGiven, portsGiven]) => ({ ...peersGiven, ...portsGiven })), { maxLength: 3 });
  const mode = fc.constantFrom('enforce', 'enforce', 'enforce', 'audit');
  const body = fc.record({ namespace: policyNamespace, selector: nativeSelector, ingress: rules('from'), egress: rules('to'), mode }, { requiredKeys: [] });
  return body.map((given) => (name: string) => ({ name, ...given }));
}
