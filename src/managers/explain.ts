/** Explains whether one end reaches another, by which policies, on which way, and what would change it. Reads only. */
import type { Explain } from '../../tools/reach.ts';
import { ClawError } from '../errors.ts';
import { policyForm } from '../interop/native-policy.ts';
import { contains } from '../model/address.ts';
import type { Endpoint } from '../model/observed.ts';
import { recordKey } from '../model/record.ts';
import type { Service } from '../model/service.ts';
import { policyModel, type FlowJudgement, type Verdict } from '../policy/evaluate.ts';
import { namespaceLabels, type Flow, type Party } from '../policy/parties.ts';
import { partyName, reasonOf, sentence } from '../policy/reasons.ts';
import { remedyFor, type Remedy } from '../policy/remedy.ts';
import { readEnd, type End } from './ends.ts';
import { stateOf } from './workloads.ts';
import type { World } from './world.ts';

interface Step {
  readonly step: 'service' | 'outside' | 'egress' | 'ingress' | 'workload';
  readonly text: string;
  readonly verdict?: Verdict;
  readonly policy?: string;
  readonly rule?: number;
}

export interface Explained {
  readonly verdict: Verdict;
  readonly reason: string;
  readonly path: Step[];
  readonly remedy?: { text: string; calls: { command: string; params: Record<string, unknown> }[] };
}

/** Of a service with many endpoints, so many are told one by one. */
const ENDPOINTS_SHOWN = 10;

export async function explain(world: World, input: Explain) {
  const from = readEnd(world, input.from, 'from');
  const to = readEnd(world, input.to, 'to');
  const named = { from: endName(from), to: endName(to), port: input.port, protocol: input.protocol };
  return { answer: { ...named, ...explainEnds(world, { from, to, input }), enforced: world.health().kernel.inSync } };
}

interface Ends {
  readonly from: End;
  readonly to: End;
  readonly input: Explain;
}

export function explainEnds(world: World, { from, to, input }: Ends): Explained {
  if (from.kind === 'service') throw new ClawError('INVALID_ARGUMENT', `from: ${input.from} is a service, and services open no connections`, { path: 'from', hint: 'Name one of its workloads: service.endpoints lists them.' });
  return to.kind === 'service' ? throughService(world, { from: from.party, service: to.service, input }) : direct(world, { from: from.party, to: to.party, input });
}

function endName(end: End): string {
  return end.kind === 'service' ? `${end.service.namespace}/${end.service.name}` : partyName(end.party);
}

interface Direct {
  readonly from: Party;
  readonly to: Party;
  readonly input: Explain;
}

function direct(world: World, { from, to, input }: Direct): Explained {
  const port = portOf(to, input);
  if (port === undefined) {
    const reason = `${partyName(to)} has no ${input.protocol} port named ${input.port}`;
    return { verdict: 'deny', reason, path: [{ step: 'workload', text: reason, verdict: 'deny' }] };
  }
  return judged(world, { from, to, port, protocol: input.protocol });
}

function portOf(to: Party, { port, protocol }: Explain): number | undefined {
  if (typeof port === 'number') return port;
  return to.kind === 'workload' ? to.workload.ports.find((candidate) => candidate.name === port && candidate.protocol === protocol)?.port : undefined;
}

function judged(world: World, flow: Flow): Explained {
  const { policies, namespaces } = world.desired;
  const labels = namespaceLabels(namespaces.values());
  const judgement = policyModel({ policies: policies.values(), namespaces: labels }).judge(flow);
  const outside = fromOutside(world, flow);
  const path = [...outside, ...steps(world, flow, judgement)];
  if (outside.length > 0) return { verdict: 'deny', reason: outside[0]?.text ?? '', path };
  const remedy = remedyFor(flow, judgement, labels);
  return { verdict: judgement.verdict, reason: reasonOf(flow, judgement), path, ...(remedy === undefined ? {} : { remedy: { text: remedy.text, calls: callsOf(world, remedy) } }) };
}

/** Machines outside reach workloads only where the operator exposed them. */
function fromOutside({ node }: World, { from, to }: Flow): Step[] {
  if (from.kind !== 'address' || to.kind !== 'workload' || node.exposeTo.some((range) => contains(range, from.ip))) return [];
  return [{ step: 'outside', verdict: 'deny', text: `${from.ip} is no workload, and this node lets no connections from outside in to workloads but through the ingress (exposeTo in its configuration)` }];
}

function steps(world: World, flow: Flow, { egress, ingress }: FlowJudgement): Step[] {
  const ends = ([['egress', egress], ['ingress', ingress]] as const).map(([direction, judgement]): Step => ({
    step: direction,
    verdict: judgement.verdict,
    text: sentence(flow, direction, judgement),
    ...(judgement.allowedBy === undefined ? {} : { policy: `${judgement.allowedBy.policy.namespace}/${judgement.allowedBy.policy.name}`, rule: judgement.allowedBy.rule }),
    ...(judgement.verdict === 'deny' ? { policy: judgement.isolating.map(({ namespace, name }) => `${namespace}/${name}`).join(', ') } : {}),
  }));
  return [...ends, ...notRunning(world, flow.to)];
}

function notRunning(world: World, to: Party): Step[] {
  if (to.kind !== 'workload') return [];
  const workload = world.desired.workloads.get(recordKey('workloads', to.workload));
  const state = workload === undefined ? 'running' : stateOf(world, workload);
  return state === 'running' ? [] : [{ step: 'workload', text: `${partyName(to)} does not run: it is ${state}` }];
}

interface ThroughService {
  readonly from: Party;
  readonly service: Service;
  readonly input: Explain;
}

/** The verdict of a virtual IP is that of its endpoints; where they differ, connections fail now and then. */
function throughService(world: World, { from, service, input }: ThroughService): Explained {
  const name = `${service.namespace}/${service.name}`;
  const port = service.ports.find((candidate) => candidate.protocol === input.protocol && (candidate.port === input.port || candidate.name === input.port));
  const ports = service.ports.map((candidate) => `${candidate.protocol} ${candidate.port}`).join(', ');
  const refused = (reason: string): Explained => ({ verdict: 'deny', reason, path: [{ step: 'service', text: reason, verdict: 'deny' }] });
  if (port === undefined) return refused(`service ${name} (${service.clusterIp}) has no ${input.protocol} port ${input.port}; it has ${ports}`);
  const healthy = world.endpointsOf(service).filter((endpoint) => endpoint.healthy || world.mode === 'model');
  const targets = healthy.flatMap((endpoint) => endpoint.ports.filter(({ servicePort, protocol }) => servicePort === port.port && protocol === port.protocol).map((target) => ({ endpoint, port: target.port })));
  if (targets.length === 0) return refused(`service ${name} (${service.clusterIp}) has no healthy endpoint: connections are refused`);
  const each = targets.map(({ endpoint, port: number }) => judged(world, { from, to: partyOf(world, endpoint), port: number, protocol: input.protocol }));
  const denied = each.filter(({ verdict }) => verdict === 'deny');
  const [first] = denied.length > 0 ? denied : each;
  const via = `${service.clusterIp} ${port.protocol} ${port.port} is translated to ${targets.slice(0, ENDPOINTS_SHOWN).map(({ endpoint, port: number }) => `${partyName(partyOf(world, endpoint))} (${endpoint.ip}:${number})`).join(', ')}${targets.length > ENDPOINTS_SHOWN ? ` and ${targets.length - ENDPOINTS_SHOWN} more` : ''}`;
  const some = denied.length > 0 && denied.length < each.length ? `${denied.length} of ${each.length} endpoints can not be reached: ` : '';
  return {
    verdict: denied.length > 0 ? 'deny' : 'allow',
    reason: `${some}${first?.reason ?? ''}`,
    path: [{ step: 'service', text: `service ${name}: ${via}` }, ...each.slice(0, ENDPOINTS_SHOWN).flatMap(({ path }) => path)],
    ...(first?.remedy === undefined ? {} : { remedy: first.remedy }),
  };
}

export function partyOf(world: World, { containerId, ip }: Endpoint): Party {
  const workload = containerId === null ? undefined : [...world.desired.workloads.values()].find(({ id }) => id === containerId);
  return workload === undefined ? { kind: 'address', ip } : { kind: 'workload', workload };
}

/** The calls that carry the remedy out, in order. */
function callsOf(world: World, { labelled, policies }: Remedy): { command: string; params: Record<string, unknown> }[] {
  const labelling = labelled.map(({ workload: { namespace, name }, labels }) => ({ command: 'workload.update', params: { namespace, name, labels } }));
  return [
    ...labelling,
    ...policies.map(({ policy, isNew }) => {
      const { selector, ingress, egress } = policyForm(policy);
      const before = world.desired.policies.get(recordKey('policies', policy));
      if (isNew) return { command: 'network.policy.create', params: { namespace: policy.namespace, name: freeName(world, policy), selector, ...(ingress === undefined ? {} : { ingress }), ...(egress === undefined ? {} : { egress }) } };
      return {
        command: 'network.policy.update',
        params: { namespace: policy.namespace, name: policy.name, ...(policy.ingress === before?.ingress ? {} : { ingress }), ...(policy.egress === before?.egress ? {} : { egress }) },
      };
    }),
  ];
}

function freeName(world: World, { namespace, name }: { namespace: string; name: string }): string {
  for (let number = 2, candidate = name; ; number += 1, candidate = `${name.slice(0, 60)}-${number}`) {
    if (!world.desired.policies.has(recordKey('policies', { namespace, name: candidate }))) return candidate;
  }
}

