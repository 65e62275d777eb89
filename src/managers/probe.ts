/** Really tries a connection and compares what comes of it with what the policies say. */
import type { Explain } from '../../tools/reach.ts';
import { netnsOf } from '../compile/links.ts';
import { ClawError } from '../errors.ts';
import type { Ipv4 } from '../model/address.ts';
import { recordKey } from '../model/record.ts';
import type { Service } from '../model/service.ts';
import type { Party } from '../policy/parties.ts';
import { partyName } from '../policy/reasons.ts';
import { explainEnds, partyOf, type Explained } from './explain.ts';
import { readEnd, type End } from './ends.ts';
import { stateOf } from './workloads.ts';
import type { World } from './world.ts';

/** What the kernel says where a policy refuses anything but TCP, which it resets like a port where nobody listens. */
const FORBIDDEN = new Set(['EHOSTUNREACH', 'EACCES', 'EPERM']);

export async function probe(world: World, input: Explain, signal: AbortSignal) {
  const from = readEnd(world, input.from, 'from');
  const to = readEnd(world, input.to, 'to');
  const { protocol } = input;
  if (protocol === 'sctp') throw new ClawError('NOT_SUPPORTED', 'a probe speaks TCP and UDP: few kernels have SCTP sockets', { path: 'protocol', hint: 'network.explain answers for SCTP.' });
  if (world.mode === 'model') throw new ClawError('NOT_SUPPORTED', 'model mode has no network to probe', { hint: 'network.explain answers what the policies say.' });
  const netns = sourceOf(world, from);
  const target = targetOf(world, to, input);
  const explained = explainEnds(world, { from, to, input });
  const { code, latencyMs } = await world.tryConnection({ netns, ...target, protocol }, signal);
  const reachable = code === 'OPEN' || (code === 'SILENT' && protocol === 'udp');
  const known = to.kind === 'service' || to.party.kind !== 'address';
  const heard = code === 'ECONNREFUSED' && protocol === 'tcp' ? await listens(world, { to, input }, signal) : undefined;
  return {
    answer: {
      from: from.kind === 'party' ? partyName(from.party) : input.from,
      to: to.kind === 'service' ? `${to.service.namespace}/${to.service.name}` : partyName(to.party),
      port: input.port,
      protocol,
      reachable,
      latencyMs: Math.round(latencyMs * 100) / 100,
      ...(code === 'OPEN' ? {} : { error: inWords(code, { protocol, heard }) }),
      expected: explained.verdict,
      agreesWithModel: agrees(code, { explained, known, protocol, heard }),
      reason: explained.reason,
    },
  };
}

function sourceOf(world: World, from: End): string | undefined {
  const refuse = (why: string, hint: string): ClawError => new ClawError('INVALID_ARGUMENT', `from: ${why}`, { path: 'from', hint });
  if (from.kind === 'service') throw refuse('a service opens no connections', 'Name one of its workloads.');
  if (from.party.kind === 'host') return undefined;
  if (from.party.kind !== 'workload') throw refuse(`a probe starts at a workload or at the node, not at ${partyName(from.party)}`, 'network.explain answers for it.');
  const workload = world.desired.workloads.get(recordKey('workloads', from.party.workload));
  if (workload === undefined || workload.node !== world.node.id) throw refuse(`${partyName(from.party)} does not run on this node`, `Ask the agent of ${workload?.node ?? 'its node'}.`);
  const state = stateOf(world, workload);
  // A network namespace of ours is there as long as the workload's record is; others come and go with what they belong to.
  if (state === 'failed' || (workload.runtime !== 'process' && state !== 'running')) throw refuse(`${partyName(from.party)} does not run: it is ${state}`, 'workload.get says why.');
  return netnsOf(workload.id);
}

function targetOf(world: World, to: End, { port, protocol }: Explain): { ip: Ipv4; port: number } {
  const missing = (what: string): ClawError => new ClawError('INVALID_ARGUMENT', `port: ${what} has no ${protocol} port ${port}`, { path: 'port', hint: 'Give a number.' });
  if (to.kind === 'service') {
    const found = to.service.ports.find((candidate) => candidate.name === port && candidate.protocol === protocol)?.port;
    const number = typeof port === 'number' ? port : found;
    if (number === undefined) throw missing(`service ${to.service.namespace}/${to.service.name}`);
    return { ip: to.service.clusterIp, port: number };
  }
  const number = typeof port === 'number' ? port : to.party.kind === 'workload' ? to.party.workload.ports.find((candidate) => candidate.name === port && candidate.protocol === protocol)?.port : undefined;
  if (number === undefined) throw missing(partyName(to.party));
  return { ip: addressOf(world, to.party), port: number };
}

function addressOf(world: World, party: Party): Ipv4 {
  if (party.kind === 'host') return party.ip ?? world.node.gateway;
  if (party.kind === 'address') return party.ip;
  const ip = party.kind === 'workload' ? party.workload.ip : undefined;
  if (ip === undefined) throw new ClawError('INVALID_ARGUMENT', `to: ${partyName(party)} has no address`, { path: 'to', hint: 'Give an IPv4 address.' });
  return ip;
}

interface Expectation {
  readonly explained: Explained;
  /** Whether it is one of ours that is dialled: beyond this network others may refuse as well. */
  readonly known: boolean;
  readonly protocol: 'tcp' | 'udp';
  /** Of what was refused: whether somebody listens there; undefined where this node can not tell. */
  readonly heard: boolean | undefined;
}

/** Null where the attempt tells nothing of policies. */
function agrees(code: string, { explained: { verdict, path }, known, protocol, heard }: Expectation): boolean | null {
  // No such port, or no healthy endpoint: it is the virtual IP that refuses.
  if (path[0]?.step === 'service' && path[0].verdict === 'deny') return code !== 'OPEN';
  if (code === 'OPEN') return verdict === 'allow';
  // A reset comes from a policy, or from a port where nobody listens; who listens is not what a reset comes from.
  if (code === 'ECONNREFUSED' && protocol === 'tcp') return verdict === 'deny' ? true : heard === true ? false : null;
  if (code === 'ECONNREFUSED') return verdict === 'allow';
  if (FORBIDDEN.has(code)) return verdict === 'deny' ? true : known ? false : null;
  if (code !== 'SILENT') return null;
  if (protocol === 'udp') return verdict === 'allow' ? true : null;
  return known ? verdict === 'deny' : null;
}

/** Behind a virtual IP every endpoint has to. */
async function listens(world: World, { to, input }: { to: End; input: Explain }, signal: AbortSignal): Promise<boolean | undefined> {
  const ends = to.kind === 'party' ? [{ party: to.party, port: targetOf(world, to, input).port }] : endpointsAt(world, to.service, input);
  const heard = await Promise.all(
    ends.map(async ({ party, port }) => {
      if (party.kind === 'host') return await world.isListening({ netns: undefined, port }, signal);
      const workload = party.kind === 'workload' ? world.desired.workloads.get(recordKey('workloads', party.workload)) : undefined;
      return workload?.node === world.node.id ? await world.isListening({ netns: netnsOf(workload.id), port }, signal) : undefined;
    }),
  );
  return heard.includes(undefined) || heard.length === 0 ? undefined : heard.every((one) => one === true);
}

function endpointsAt(world: World, service: Service, { port, protocol }: Explain): { party: Party; port: number }[] {
  const servicePort = service.ports.find((candidate) => candidate.protocol === protocol && (candidate.port === port || candidate.name === port))?.port;
  const healthy = world.endpointsOf(service).filter((endpoint) => endpoint.healthy);
  return healthy.flatMap((endpoint) => endpoint.ports.filter((at) => at.servicePort === servicePort && at.protocol === protocol).map((at) => ({ party: partyOf(world, endpoint), port: at.port })));
}

function inWords(code: string, { protocol, heard }: Pick<Expectation, 'protocol' | 'heard'>): string {
  if (code === 'SILENT') return protocol === 'udp' ? 'sent, and neither answered nor refused' : 'no answer in time';
  if (code === 'ECONNREFUSED') return `refused${heard === true ? ' on the way, for somebody listens there' : heard === false ? ': nobody listens there' : ''} (ECONNREFUSED)`;
  if (FORBIDDEN.has(code)) return `forbidden on the way (${code})`;
  return code;
}
