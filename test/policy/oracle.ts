/**
 * Kubernetes NetworkPolicy written once more, for tests to compare with: sets of flows, enumerated whole and then looked up. Shares no code with the model.
 * Source of the rules: https://kubernetes.io/docs/concepts/services-networking/network-policies/ and the API reference of NetworkPolicySpec.
 */
import { z } from 'zod';
import type { Simulate } from '../../tools/reach.ts';

type Names = ReadonlySet<string>;
type Probe = NonNullable<Simulate['probes']>[number];
type Way = 'ingress' | 'egress';

/** One way of sorting the workloads: by their own labels, or by those of their namespaces. */
type Sorting = ReadonlyMap<string, Readonly<Record<string, string>>>;

interface Universe {
  /** All that can be at an end of a flow: "namespace/name" of the workloads, and the addresses outside. */
  readonly ends: Names;
  readonly own: Sorting;
  readonly ofNamespace: Sorting;
  /** The address of an end as 32 binary digits; a workload without one is not in it. */
  readonly bits: ReadonlyMap<string, string>;
  /** "tcp/80" and the like: everything that is asked about. */
  readonly services: Names;
  /** For each workload, "tcp/web" to "tcp/80". */
  readonly named: ReadonlyMap<string, ReadonlyMap<string, string>>;
}

/** Answers, for each probe, whether either side lets it pass. */
export function oracle(state: Simulate, probes: readonly Probe[]): { ingress: boolean; egress: boolean }[] {
  const universe = universeOf(state, probes);
  const policies = state.policies.map((policy) => statement.parse(policy)).filter(({ audit }) => !audit);
  const flows = { ingress: flowsOf(policies, 'ingress', universe), egress: flowsOf(policies, 'egress', universe) };
  return probes.map((probe) => {
    const [from, to] = [endOf(state, probe.from), endOf(state, probe.to)];
    const service = serviceOf(probe, universe.named.get(to));
    return { ingress: flows.ingress.has(`${to} ${from} ${service}`), egress: flows.egress.has(`${from} ${to} ${service}`) };
  });
}

/** All flows "here there service" that the policies of one direction let pass. */
function flowsOf(policies: readonly Statement[], way: Way, universe: Universe): Names {
  const isolated = new Set(policies.flatMap((policy) => (policy[way] === undefined ? [] : [...subjects(policy, universe)])));
  const open = product(without(universe.ends, isolated), universe.ends, () => universe.services);
  const self = [...isolated].flatMap((end) => product(new Set([end]), new Set([end]), () => universe.services));
  const listed = policies.flatMap((policy) =>
    (policy[way] ?? []).flatMap((rule) =>
      product(subjects(policy, universe), peersOf(rule, policy.namespace, universe), (here, there) => servicesOf(rule, way === 'ingress' ? here : there, universe)),
    ),
  );
  return new Set([...open, ...self, ...listed]);
}

function product(here: Names, there: Names, services: (here: string, there: string) => Names): string[] {
  return [...here].flatMap((one) => [...there].flatMap((other) => [...services(one, other)].map((service) => `${one} ${other} ${service}`)));
}

function subjects({ namespace, selector }: Statement, universe: Universe): Names {
  return common(members(selector, universe.own), members(inNamespace(namespace), universe.ofNamespace));
}

function peersOf({ peers }: Rule, namespace: string, universe: Universe): Names {
  return peers.length === 0 ? universe.ends : union(peers.map((peer) => peerOf(peer, namespace, universe)));
}

function peerOf({ block, pods, namespaces, entity }: Peer, namespace: string, { ends, own, ofNamespace, bits }: Universe): Names {
  const within = (range: string): Names => new Set([...ends].filter((end) => bits.get(end)?.startsWith(prefixOf(range))));
  // Neither the node nor its proxy is an end of a simulated flow.
  if (entity != null) return new Set();
  // Whoever's address is not told has one all the same.
  if (block?.cidr === '0.0.0.0/0' && (block.except ?? []).length === 0) return ends;
  if (block != null) return without(within(block.cidr), union((block.except ?? []).map(within)));
  return common(members(pods ?? {}, own), members(namespaces ?? inNamespace(namespace), ofNamespace));
}

function servicesOf({ ports }: Rule, destination: string, { services, named }: Universe): Names {
  return ports.length === 0 ? services : union(ports.map((entry) => entryOf(entry, { services, named: named.get(destination) })));
}

/** Of the services asked about, those that the entry stands for at a destination with these names. */
function entryOf({ protocol, port, endPort }: Entry, { services, named }: { services: Names; named: ReadonlyMap<string, string> | undefined }): Names {
  const prefix = `${(protocol ?? 'tcp').toLowerCase()}/`;
  if (typeof port === 'string') return common(services, new Set([named?.get(prefix + port) ?? 'nothing']));
  const first = port ?? 1;
  const last = port == null ? 65_535 : (endPort ?? port);
  return new Set([...services].filter((service) => service.startsWith(prefix) && Number(service.slice(prefix.length)) >= first && Number(service.slice(prefix.length)) <= last));
}

/** The workloads of a selector: the intersection of what each of its demands leaves over. */
function members({ matchLabels, matchExpressions }: Selector, sorting: Sorting): Names {
  const everyone = new Set(sorting.keys());
  const labelled = (wanted: (entry: readonly [string, string]) => boolean): Names => new Set([...everyone].filter((end) => Object.entries(sorting.get(end) ?? {}).some(wanted)));
  const demands = [...Object.entries(matchLabels ?? {}).map(([key, value]) => ({ key, operator: 'In' as const, values: [value] })), ...(matchExpressions ?? [])];
  return demands.reduce<Names>((left, { key, operator, values }) => {
    const withKey = labelled(([label]) => label === key);
    const withValue = labelled(([label, value]) => label === key && (values ?? []).includes(value));
    return common(left, { In: withValue, NotIn: without(everyone, withValue), Exists: withKey, DoesNotExist: without(everyone, withKey) }[operator]);
  }, everyone);
}

function universeOf(state: Simulate, probes: readonly Probe[]): Universe {
  const { workloads, namespaces } = state;
  const declared = new Map(namespaces.map(({ name, labels }) => [name, labels]));
  const id = ({ namespace, name }: { namespace: string; name: string }): string => `${namespace}/${name}`;
  const outside = probes.flatMap(({ from, to }) => [from, to]).filter((end) => !end.includes('/') && workloads.every(({ ip }) => ip !== end));
  const named = new Map(workloads.map((workload) => [id(workload), new Map(workload.ports.map(({ name = '', port, protocol }) => [`${protocol}/${name}`, `${protocol}/${port}`]))]));
  return {
    ends: new Set([...workloads.map(id), ...outside]),
    own: new Map(workloads.map((workload) => [id(workload), workload.labels])),
    ofNamespace: new Map(workloads.map((workload) => [id(workload), { ...declared.get(workload.namespace), ...inNamespace(workload.namespace).matchLabels }])),
    bits: new Map([...workloads.flatMap((workload) => (workload.ip === undefined ? [] : [[id(workload), digits(workload.ip)] as const])), ...outside.map((end) => [end, digits(end)] as const)]),
    services: new Set(probes.map((probe) => serviceOf(probe, named.get(endOf(state, probe.to))))),
    named,
  };
}

function endOf({ workloads }: Simulate, end: string): string {
  const workload = workloads.find(({ ip }) => ip === end);
  return workload === undefined ? end : `${workload.namespace}/${workload.name}`;
}

function serviceOf({ port, protocol }: Probe, named: ReadonlyMap<string, string> | undefined): string {
  return typeof port === 'number' ? `${protocol}/${port}` : (named?.get(`${protocol}/${port}`) ?? `no port ${port}`);
}

function inNamespace(namespace: string): { readonly matchLabels: Record<string, string> } {
  return { matchLabels: { 'kubernetes.io/metadata.name': namespace } };
}

function digits(address: string): string {
  return address.split('.').map((octet) => Number(octet).toString(2).padStart(8, '0')).join('');
}

function prefixOf(range: string): string {
  return digits(range.split('/')[0] ?? '').slice(0, Number(range.split('/')[1]));
}

function union(sets: readonly Names[]): Names {
  return new Set(sets.flatMap((set) => [...set]));
}

function without(all: Names, some: Names): Names {
  return new Set([...all].filter((one) => !some.has(one)));
}

function common(all: Names, some: Names): Names {
  return new Set([...all].filter((one) => some.has(one)));
}

/** Both written forms, read leniently: that bad ones are refused is tested elsewhere. */
const pairs = z.record(z.string(), z.string());
const expression = z.object({ key: z.string(), operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']), values: z.array(z.string()).nullish() });
const selectorSchema = z.union([z.strictObject({ matchLabels: pairs.nullish(), matchExpressions: z.array(expression).nullish() }), pairs.transform((matchLabels) => ({ matchLabels, matchExpressions: null }))]);
type Selector = Partial<z.output<typeof selectorSchema>>;

const entry = z.object({ protocol: z.string().nullish(), port: z.union([z.number(), z.string()]).nullish(), endPort: z.number().nullish() });
type Entry = z.output<typeof entry>;

const block = z.object({ cidr: z.string(), except: z.array(z.string()).nullish() });
const kubernetesPeer = z
  .object({ podSelector: selectorSchema.nullish(), namespaceSelector: selectorSchema.nullish(), ipBlock: block.nullish() })
  .transform(({ podSelector, namespaceSelector, ipBlock }) => ({ pods: podSelector, namespaces: namespaceSelector, block: ipBlock, entity: null }));
const nativePeer = z
  .object({ selector: selectorSchema.optional(), namespaceSelector: selectorSchema.optional(), cidr: z.string().optional(), except: z.array(z.string()).optional(), entity: z.string().optional() })
  .transform(({ selector, namespaceSelector, cidr, except, entity }) => ({ pods: selector, namespaces: namespaceSelector, block: cidr === undefined ? null : { cidr, except }, entity }));
type Peer = z.output<typeof kubernetesPeer> | z.output<typeof nativePeer>;

/** An empty list of peers or ports in a rule stands for all of them. */
interface Rule {
  readonly peers: readonly Peer[];
  readonly ports: readonly Entry[];
}
const kubernetesRule = z
  .object({ from: z.array(kubernetesPeer).nullish(), to: z.array(kubernetesPeer).nullish(), ports: z.array(entry).nullish() })
  .transform(({ from, to, ports }): Rule => ({ peers: from ?? to ?? [], ports: ports ?? [] }));
const peers = z.union([z.array(nativePeer), nativePeer.transform((one) => [one])]);
const nativeRule = entry
  .extend({ from: peers.optional(), to: peers.optional(), ports: z.array(entry).optional() })
  .transform(({ from, to, ports, ...single }): Rule => ({ peers: from ?? to ?? [], ports: [...(ports ?? []), ...(single.port === undefined && single.protocol === undefined ? [] : [single])] }));

const kubernetes = z
  .object({
    metadata: z.object({ namespace: z.string().nullish() }),
    spec: z.object({ podSelector: selectorSchema.nullish(), policyTypes: z.array(z.string()).nullish(), ingress: z.array(kubernetesRule).nullish(), egress: z.array(kubernetesRule).nullish() }),
  })
  .transform(({ metadata, spec: { podSelector, policyTypes, ingress, egress } }) => {
    const types = policyTypes == null || policyTypes.length === 0 ? ['Ingress', ...(egress == null ? [] : ['Egress'])] : policyTypes;
    const rules = { ingress: types.includes('Ingress') ? (ingress ?? []) : undefined, egress: types.includes('Egress') ? (egress ?? []) : undefined };
    return { namespace: metadata.namespace ?? 'default', selector: podSelector ?? {}, ...rules, audit: false };
  });
const native = z
  .object({ name: z.string(), namespace: z.string().default('default'), selector: selectorSchema.default({}), ingress: z.array(nativeRule).optional(), egress: z.array(nativeRule).optional(), mode: z.string().optional() })
  .transform(({ namespace, selector, ingress, egress, mode }) => ({ namespace, selector, ingress, egress, audit: mode === 'audit' }));
const statement = z.union([kubernetes, native]);
type Statement = z.output<typeof statement>;
