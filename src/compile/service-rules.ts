/** One service as DNAT rules, before it is known where in the tree they stand. Pure. */
import { createHash } from 'node:crypto';
import { toNumber } from '../model/address.ts';
import type { Endpoint, EndpointPort } from '../model/observed.ts';
import { recordKey } from '../model/record.ts';
import type { Service, ServicePort } from '../model/service.ts';
import { affineEndpoint, type AffineEndpoint } from './affinity.ts';
import type { IpsetState, Rules } from './kernel-state.ts';

export interface ServiceRules {
  /** What they were made from; the same objects give the same rules. */
  readonly service: Service;
  readonly endpoints: readonly Endpoint[];
  readonly vip: number;
  /** What the block of the virtual IP holds: the rules themselves, or a jump to the first of `chains`. */
  readonly inBlock: Rules;
  /** Chains of its own: one when there are too many rules for the block, and one per endpoint for session affinity. */
  readonly chains: readonly { readonly name: string; readonly rules: Rules }[];
  /** What those chains refer to. */
  readonly sets: readonly IpsetState[];
}

/**
 * Up to so many rules stand in the block itself. A chain of its own costs memory, time to restore and time in every later
 * commit, because nf_tables walks through everything that is reachable; but a packet to one of the 15 neighbours compares
 * its address with each rule in the block.
 */
const MOST_INLINE = 4;

export function compileServiceRules(service: Service, endpoints: readonly Endpoint[]): ServiceRules {
  const healthy = endpoints.filter((endpoint) => endpoint.healthy);
  const { sessionAffinity } = service;
  const affine = sessionAffinity === undefined ? undefined : new Map(healthy.map((endpoint) => [endpoint, affineEndpoint(service, endpoint, sessionAffinity.timeoutSeconds)]));
  const rules = service.ports.flatMap((port) => (affine === undefined ? dnatRules(port, healthy) : affineRules(port, affine)));
  const vip = `-d ${service.clusterIp}/32`;
  const own = rules.length > MOST_INLINE ? [{ name: serviceChain(service), rules }] : [];
  const perEndpoint = [...(affine?.values() ?? [])];
  return {
    service,
    endpoints,
    vip: toNumber(service.clusterIp),
    inBlock: own.length === 0 ? rules.map((rule) => `${vip} ${rule}`) : own.map(({ name }) => `${vip} -j ${name}`),
    chains: [...own, ...perEndpoint.map(({ chain }) => chain)],
    sets: perEndpoint.map(({ set }) => set),
  };
}

/** Chain names hold 28 bytes and a record key up to 136, so the key is hashed. */
function serviceChain(service: Service): string {
  return `CLAW-S-${createHash('sha256').update(recordKey('services', service)).digest('hex').slice(0, 20).toUpperCase()}`;
}

/** One rule per endpoint; the i-th of n takes 1/(n-i) of what reaches it, so that all get the same share. */
function dnatRules(port: ServicePort, endpoints: readonly Endpoint[]): string[] {
  const targets = endpoints.flatMap((endpoint) => endpoint.ports.filter((candidate) => serves(candidate, port)).map((candidate) => `${endpoint.ip}:${candidate.port}`));
  return targets.map((target, index) => `${to(port)}${share(index, targets.length)} -j DNAT --to-destination ${target}`);
}

/** First those who are known go where they were, then all others are balanced; either way the endpoint's chain remembers them. */
function affineRules(port: ServicePort, endpoints: ReadonlyMap<Endpoint, AffineEndpoint>): string[] {
  const targets = [...endpoints].filter(([endpoint]) => endpoint.ports.some((candidate) => serves(candidate, port))).map(([, affine]) => affine);
  const known = targets.length < 2 ? [] : targets.map(({ set, chain }) => `${to(port)} -m set --match-set ${set.name} src -g ${chain.name}`);
  return [...known, ...targets.map(({ chain }, index) => `${to(port)}${share(index, targets.length)} -g ${chain.name}`)];
}

function serves(candidate: EndpointPort, port: ServicePort): boolean {
  return candidate.servicePort === port.port && candidate.protocol === port.protocol;
}

function to({ protocol, port }: ServicePort): string {
  return `-p ${protocol} -m ${protocol} --dport ${port}`;
}

function share(index: number, count: number): string {
  const left = count - index;
  return left === 1 ? '' : ` -m statistic --mode random --probability ${probability(1 / left)}`;
}

/** The kernel keeps a probability as a multiple of 2^-31, and iptables-save prints that with 11 digits. */
function probability(value: number): string {
  return (Math.round(value * 2 ** 31) / 2 ** 31).toFixed(11);
}
