/** One service as DNAT rules, before it is known where in the tree they stand. Pure. */
import { createHash } from 'node:crypto';
import { toNumber } from '../model/address.ts';
import type { Endpoint } from '../model/observed.ts';
import { recordKey } from '../model/record.ts';
import type { Service, ServicePort } from '../model/service.ts';
import type { Rules } from './kernel-state.ts';

export interface ServiceRules {
  /** What they were made from; the same objects give the same rules. */
  readonly service: Service;
  readonly endpoints: readonly Endpoint[];
  readonly vip: number;
  /** What the block of the virtual IP holds: the rules themselves, or a jump to `chain`. */
  readonly inBlock: Rules;
  /** A chain of its own, when there are too many rules for the block. */
  readonly chain: { readonly name: string; readonly rules: Rules } | undefined;
}

/**
 * Up to so many rules stand in the block itself. A chain of its own costs memory, time to restore and time in every later
 * commit, because nf_tables walks through everything that is reachable; but a packet to one of the 15 neighbours compares
 * its address with each rule in the block.
 */
const MOST_INLINE = 4;

export function compileServiceRules(service: Service, endpoints: readonly Endpoint[]): ServiceRules {
  const rules = service.ports.flatMap((port) => dnatRules(port, endpoints));
  const to = `-d ${service.clusterIp}/32`;
  const chain = rules.length > MOST_INLINE ? { name: serviceChain(service), rules } : undefined;
  return {
    service,
    endpoints,
    vip: toNumber(service.clusterIp),
    inBlock: chain === undefined ? rules.map((rule) => `${to} ${rule}`) : [`${to} -j ${chain.name}`],
    chain,
  };
}

/** Chain names hold 28 bytes and a record key up to 136, so the key is hashed. */
function serviceChain(service: Service): string {
  return `CLAW-S-${createHash('sha256').update(recordKey('services', service)).digest('hex').slice(0, 20).toUpperCase()}`;
}

/** One rule per healthy endpoint; the i-th of n takes 1/(n-i) of what reaches it, so that all get the same share. */
function dnatRules(port: ServicePort, endpoints: readonly Endpoint[]): string[] {
  const targets = endpoints
    .filter((endpoint) => endpoint.healthy)
    .flatMap((endpoint) =>
      endpoint.ports
        .filter((candidate) => candidate.servicePort === port.port && candidate.protocol === port.protocol)
        .map((candidate) => `${endpoint.ip}:${candidate.port}`),
    );
  return targets.map((target, index) => {
    const left = targets.length - index;
    const share = left === 1 ? '' : ` -m statistic --mode random --probability ${probability(1 / left)}`;
    return `-p ${port.protocol} -m ${port.protocol} --dport ${port.port}${share} -j DNAT --to-destination ${target}`;
  });
}

/** The kernel keeps a probability as a multiple of 2^-31, and iptables-save prints that with 11 digits. */
function probability(value: number): string {
  return (Math.round(value * 2 ** 31) / 2 ** 31).toFixed(11);
}
