/** Simulations: over policies in either form, manifests and workloads that are given in the question. Reads no state. */
import type { Simulate } from '../../tools/reach.ts';
import { ClawError } from '../errors.ts';
import { NETWORK_POLICY, readKubernetesPolicy } from '../interop/kubernetes-policy.ts';
import { readKubernetesNamespace } from '../interop/kubernetes-namespace.ts';
import { readManifest, type ManifestDocument } from '../interop/manifest.ts';
import { parsePolicyForm } from '../interop/native-policy.ts';
import { OWN_API_VERSION, readOwnPolicy } from '../interop/own-objects.ts';
import { at, pathText } from '../interop/refusal.ts';
import { ipv4 } from '../model/address.ts';
import { deepestIssue } from '../model/deepest-issue.ts';
import { nativePolicy } from '../model/policy-form.ts';
import { policyModel, type PolicyModelInput } from '../policy/evaluate.ts';
import { namespaceLabels, type Party, type PolicyParts, type PolicyWorkload } from '../policy/parties.ts';
import { matrix, matrixSize, simulateProbes, type Probe, type SimulatedFlow } from '../policy/simulate.ts';

/** Answers larger than that help nobody. */
const MOST_RESULTS = 250_000;

/** The answer to each probe, or the whole matrix. Throws INVALID_ARGUMENT with the path of the culprit, e.g. `policies[2].spec.ingress[0]`. */
export async function simulate(input: Simulate): Promise<SimulatedFlow[]> {
  const { model: parts, workloads, probes } = readSimulation(input, input.manifest === undefined ? [] : await readManifest(input.manifest));
  if (probes === undefined && matrixSize(workloads) > MOST_RESULTS) {
    throw new ClawError('LIMIT_EXCEEDED', `the whole matrix has ${matrixSize(workloads)} answers, and ${MOST_RESULTS} is the most`, { path: 'workloads', hint: 'Ask with probes, or with fewer workloads.' });
  }
  return simulateProbes(policyModel(parts), probes ?? matrix(workloads));
}

export interface Simulation {
  readonly model: PolicyModelInput;
  readonly workloads: readonly PolicyWorkload[];
  /** Undefined: the whole matrix is asked for. */
  readonly probes?: readonly Probe[];
}

/** `documents` are those of the manifest. */
export function readSimulation({ namespaces, workloads, policies, probes }: Simulate, documents: readonly ManifestDocument[] = []): Simulation {
  const read = policies.map((policy, index) => at(`policies[${index}]`, () => readPolicy(policy)));
  const policyPlaces = policies.map((policy, index) => `policies[${index}].${isKubernetes(policy) ? 'metadata.' : ''}name`);
  const named: { name: string; labels: Record<string, string> }[] = [...namespaces];
  for (const { index, kind, apiVersion, object } of documents) {
    const path = `manifest[${index}]`;
    if (kind === 'Namespace' && apiVersion === 'v1') named.push(at(path, () => readKubernetesNamespace(object)));
    else if (kind === NETWORK_POLICY.kind && (apiVersion === NETWORK_POLICY.apiVersion || apiVersion === OWN_API_VERSION)) {
      read.push(at(path, () => (apiVersion === OWN_API_VERSION ? readOwnPolicy(object) : readPolicy(object))));
      policyPlaces.push(`${path}.metadata.name`);
    } else throw new ClawError('NOT_SUPPORTED', `${path}: ${apiVersion} ${kind} says nothing about who reaches whom here`, { path: `${path}.kind`, hint: 'A simulation takes NetworkPolicy and Namespace objects.' });
  }
  refuseTwins(read, policyPlaces);
  refuseTwins(workloads, workloads.map((_, index) => `workloads[${index}].name`));
  const find = partyFinder(workloads);
  return {
    model: { policies: read, namespaces: namespaceLabels(named) },
    workloads,
    ...(probes === undefined ? {} : { probes: probes.map((probe, index) => readProbe(probe, { path: `probes[${index}]`, find })) }),
  };
}

function readPolicy(object: unknown): PolicyParts {
  if (isKubernetes(object)) return { ...readKubernetesPolicy(object), mode: 'enforce' };
  const parsed = nativePolicy.safeParse(object, { reportInput: true });
  if (parsed.success) {
    const { namespace, name, mode = 'enforce', ...form } = parsed.data;
    return { namespace, name, origin: 'native', mode, ...parsePolicyForm(form) };
  }
  const [outer] = parsed.error.issues;
  const issue = outer === undefined ? undefined : deepestIssue(outer);
  const path = pathText([...(issue?.path ?? []), ...(issue?.code === 'unrecognized_keys' ? issue.keys.slice(0, 1) : [])]);
  throw new ClawError('INVALID_ARGUMENT', `${path}: ${issue?.message ?? 'it can not be read'}`, { path, hint: 'The form is that of network.policy.create, or of a Kubernetes NetworkPolicy.' });
}

/** No policy of ours has one of these keys. */
function isKubernetes(object: unknown): boolean {
  return typeof object === 'object' && object !== null && ['apiVersion', 'kind', 'metadata', 'spec'].some((key) => key in object);
}

function refuseTwins(objects: readonly { readonly namespace: string; readonly name: string }[], places: readonly string[]): void {
  const seen = new Set<string>();
  for (const [index, { namespace, name }] of objects.entries()) {
    if (seen.has(`${namespace}/${name}`)) throw new ClawError('INVALID_ARGUMENT', `${namespace}/${name} stands there twice`, { path: places[index] ?? '', hint: 'Give each object once.' });
    seen.add(`${namespace}/${name}`);
  }
}

type Find = (text: string, path: string) => Party;

/** The workload of a name or address; an address that none of them has stands for the world outside. */
function partyFinder(workloads: readonly PolicyWorkload[]): Find {
  const byName = new Map(workloads.map((workload) => [`${workload.namespace}/${workload.name}`, workload]));
  const byIp = new Map(workloads.flatMap((workload) => (workload.ip === undefined ? [] : [[workload.ip, workload] as const])));
  const read = (text: string, path: string): Party => {
    if (text === 'entity:host') return { kind: 'host' };
    if (text === 'entity:ingress') return { kind: 'ingress' };
    const ip = ipv4.safeParse(text);
    const workload = ip.success ? byIp.get(ip.data) : byName.get(text.includes('/') ? text : `default/${text}`);
    if (workload !== undefined) return { kind: 'workload', workload };
    if (ip.success) return { kind: 'address', ip: ip.data };
    throw new ClawError('INVALID_ARGUMENT', `${path}: ${JSON.stringify(text)} is neither a workload of this simulation nor an IPv4 address`, { path, hint: 'Name it as namespace/name; "entity:ingress" and "entity:host" stand for the proxy and the node.' });
  };
  // Thousands of probes name the same few ends.
  const known = new Map<string, Party>();
  return (text, path) => {
    const party = known.get(text) ?? read(text, path);
    known.set(text, party);
    return party;
  };
}

function readProbe({ from, to, port, protocol }: NonNullable<Simulate['probes']>[number], { path, find }: { path: string; find: Find }): Probe {
  const source = find(from, `${path}.from`);
  const destination = find(to, `${path}.to`);
  if (destination.kind === 'ingress') throw new ClawError('INVALID_ARGUMENT', `${path}.to: the ingress proxy is no destination`, { path: `${path}.to`, hint: 'It listens on the node: ask for "entity:host" and its port.' });
  const asked = { from, to, port };
  if (typeof port === 'number') return { from: source, to: destination, port, protocol, asked };
  const named = destination.kind === 'workload' ? destination.workload.ports.find((candidate) => candidate.name === port && candidate.protocol === protocol) : undefined;
  if (named === undefined) throw new ClawError('INVALID_ARGUMENT', `${path}.port: ${to} has no ${protocol} port named ${port}`, { path: `${path}.port`, hint: 'Give its number, or name the port in the ports of the workload.' });
  return { from: source, to: destination, port: named.port, protocol, asked };
}
