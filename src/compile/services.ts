/** Services as nat rules: a tree of chains over the VIP range, and one chain of DNAT rules per service. Pure. */
import { createHash } from 'node:crypto';
import { bounds, fromNumber, toNumber, type Cidr } from '../model/address.ts';
import type { Endpoint } from '../model/observed.ts';
import { recordKey } from '../model/record.ts';
import type { Service, ServicePort } from '../model/service.ts';
import type { EndpointsOf } from './endpoints.ts';
import type { Rules } from './kernel-state.ts';

/** Where nat PREROUTING and OUTPUT send all traffic to the VIP range. */
export const SERVICES_CHAIN = 'CLAW-SERVICES';

/** 16 children per block: a /16 costs at most 4 x 16 comparisons, however many services there are. */
const LEVEL_BITS = 4;

/**
 * The nat chains of all services. The rules of a service that did not change since an earlier call are the same array,
 * so that a driver finds the difference among thousands of chains by identity.
 *
 * The root ends in ACCEPT: what no service translated stays as it is, also past foreign rules behind ours (Docker's
 * DNAT matches every local address, and the VIP range is one), and the filter table then rejects it.
 */
export function compileServices(range: Cidr, services: Iterable<Service>, endpointsOf: EndpointsOf): Map<string, Rules> {
  const chains = new Map<string, Rules>();
  let blocks = new Map<number, string>();
  for (const service of services) {
    const { vip, chain, dispatch, rules } = compileService(service, endpointsOf(service));
    chains.set(chain, rules);
    blocks.set(vip, dispatch);
  }
  for (const bits of treeLevels(range)) {
    const above = new Map<number, string>();
    for (const [block, children] of groupByBlock(blocks, bits)) {
      const address = fromNumber(block);
      const chain = `CLAW-VIP-${address}-${bits}`;
      chains.set(chain, inOrder(children));
      above.set(block, `-d ${address}/${bits} -j ${chain}`);
    }
    blocks = above;
  }
  chains.set(SERVICES_CHAIN, [...inOrder([...blocks]), '-j ACCEPT']);
  return chains;
}

/** The chain of one service. Chain names hold 28 bytes and a record key up to 136, so the key is hashed. */
export function serviceChain(service: Service): string {
  return `CLAW-S-${createHash('sha256').update(recordKey('services', service)).digest('hex').slice(0, 20).toUpperCase()}`;
}

interface CompiledService {
  readonly endpoints: readonly Endpoint[];
  readonly vip: number;
  readonly chain: string;
  readonly dispatch: string;
  readonly rules: Rules;
}

const compiledServices = new WeakMap<Service, CompiledService>();

function compileService(service: Service, endpoints: readonly Endpoint[]): CompiledService {
  const known = compiledServices.get(service);
  if (known?.endpoints === endpoints) return known;
  const chain = known?.chain ?? serviceChain(service);
  const rules = service.ports.flatMap((port) => dnatRules(port, endpoints));
  const compiled: CompiledService = {
    endpoints,
    vip: known?.vip ?? toNumber(service.clusterIp),
    chain,
    dispatch: `-d ${service.clusterIp}/32 -j ${chain}`,
    rules: known !== undefined && sameLines(known.rules, rules) ? known.rules : rules,
  };
  compiledServices.set(service, compiled);
  return compiled;
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

/** Prefix lengths of the blocks below the range, deepest first: 28, 24, 20 for a /16. */
function treeLevels(range: Cidr): number[] {
  const { prefix } = bounds(range);
  const levels: number[] = [];
  for (let bits = prefix + LEVEL_BITS; bits < 32; bits += LEVEL_BITS) levels.unshift(bits);
  return levels;
}

type Child = readonly [at: number, rule: string];

function groupByBlock(blocks: ReadonlyMap<number, string>, bits: number): ReadonlyMap<number, Child[]> {
  const size = 2 ** (32 - bits);
  const groups = new Map<number, Child[]>();
  for (const child of blocks) {
    const block = child[0] - (child[0] % size);
    const group = groups.get(block);
    if (group === undefined) groups.set(block, [child]);
    else group.push(child);
  }
  return groups;
}

function inOrder(children: readonly Child[]): string[] {
  return children.toSorted(([a], [b]) => a - b).map(([, rule]) => rule);
}

function sameLines(a: Rules, b: Rules): boolean {
  return a.length === b.length && a.every((line, index) => line === b[index]);
}
