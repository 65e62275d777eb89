/** Services as nat rules: a tree of chains over the VIP range, kept from one compile to the next. No I/O, no clock. */
import { bounds, fromNumber, type Cidr } from '../model/address.ts';
import type { Service } from '../model/service.ts';
import type { EndpointsOf } from './endpoints.ts';
import type { Rules } from './kernel-state.ts';
import { compileServiceRules, type ServiceRules } from './service-rules.ts';

/** Where nat PREROUTING and OUTPUT send all traffic to the VIP range. */
export const SERVICES_CHAIN = 'CLAW-SERVICES';

/** 16 children per block: a /16 costs at most 3 x 16 comparisons and those in the last block, however many services there are. */
const LEVEL_BITS = 4;

export interface ServicesInput {
  /** By record key. */
  readonly services: ReadonlyMap<string, Service>;
  readonly endpointsOf: EndpointsOf;
  /** Keys whose service, or whose endpoints, may differ from the call before; undefined: any. The first call takes all. */
  readonly changed?: Iterable<string> | undefined;
}

export interface ServicesCompiler {
  /**
   * The nat chains of all services, the same whatever calls came before. What did not change since the call before is the
   * same object, from one chain's rules up to the whole map, so that a driver finds the difference among thousands by identity.
   *
   * The root ends in ACCEPT: what no service translated stays as it is, also past foreign rules behind ours (Docker's
   * DNAT matches every local address, and the VIP range is one), and the filter table then rejects it.
   */
  compile(input: ServicesInput): ReadonlyMap<string, Rules>;
}

export function servicesCompiler(range: Cidr): ServicesCompiler {
  const levels = treeLevels(range);
  const leafSize = 2 ** (32 - (levels[0] ?? bounds(range).prefix));
  const known = new Map<string, ServiceRules>();
  const leaves = new Map<number, Leaf>();
  let chains: ReadonlyMap<string, Rules> | undefined;

  /** Takes one service in, in its new form or not at all any more. Gives the leaf that has to be put together anew. */
  const take = (key: string, { services, endpointsOf }: ServicesInput): number[] => {
    const before = known.get(key);
    const service = services.get(key);
    const endpoints = service === undefined ? undefined : endpointsOf(service);
    if (before !== undefined && before.service === service && before.endpoints === endpoints) return [];
    const made = service === undefined || endpoints === undefined ? undefined : compileServiceRules(service, endpoints);
    const same = before !== undefined && made !== undefined && before.vip === made.vip && sameRules(before, made);
    const after = same ? { ...made, inBlock: before.inBlock, chain: before.chain } : made;
    const left = before === undefined ? [] : leaveLeaf(leaves, blockOf(before.vip, leafSize), before);
    if (after === undefined) {
      known.delete(key);
      return left;
    }
    known.set(key, after);
    const entered = enterLeaf(leaves, blockOf(after.vip, leafSize), after);
    return same ? [] : [...left, ...entered];
  };

  return {
    compile: (input) => {
      const keys = chains === undefined || input.changed === undefined ? new Set([...known.keys(), ...input.services.keys()]) : new Set(input.changed);
      const touched = new Set<number>();
      for (const key of keys) for (const block of take(key, input)) touched.add(block);
      if (chains !== undefined && touched.size === 0) return chains;
      for (const block of touched) finishLeaf(leaves, block);
      chains = assemble(leaves, levels, chains);
      return chains;
    },
  };
}

/** A block of the lowest level. A service without an endpoint is in none: the filter table refuses its connections. */
interface Leaf {
  /** By virtual IP. */
  readonly members: Map<number, ServiceRules>;
  rules: Rules;
}

function enterLeaf(leaves: Map<number, Leaf>, block: number, member: ServiceRules): number[] {
  const leaf = leaves.get(block) ?? { members: new Map<number, ServiceRules>(), rules: [] };
  leaves.set(block, leaf);
  leaf.members.set(member.vip, member);
  return [block];
}

function leaveLeaf(leaves: Map<number, Leaf>, block: number, member: ServiceRules): number[] {
  const members = leaves.get(block)?.members;
  // Its virtual IP may have been given to another service by now.
  if (members?.get(member.vip) === member) members.delete(member.vip);
  return [block];
}

function finishLeaf(leaves: Map<number, Leaf>, block: number): void {
  const leaf = leaves.get(block);
  if (leaf === undefined) return;
  leaf.rules = [...leaf.members.values()].toSorted((a, b) => a.vip - b.vip).flatMap(({ inBlock }) => inBlock);
  if (leaf.members.size === 0) leaves.delete(block);
}

function assemble(leaves: ReadonlyMap<number, Leaf>, levels: readonly number[], before: ReadonlyMap<string, Rules> | undefined): Map<string, Rules> {
  const chains = new Map<string, Rules>();
  const inOrder = [...leaves].filter(([, { rules }]) => rules.length > 0).toSorted(([a], [b]) => a - b);
  const add = (name: string, rules: Rules): void => {
    const known = before?.get(name);
    chains.set(name, known !== undefined && sameLines(known, rules) ? known : rules);
  };
  for (const [, { members }] of inOrder) for (const { chain } of members.values()) if (chain !== undefined) chains.set(chain.name, chain.rules);
  let blocks = inOrder.map(([block, { rules }]): readonly [number, Rules] => [block, rules]);
  for (const bits of levels) {
    const size = 2 ** (32 - bits);
    const groups = Map.groupBy(blocks, ([block]) => blockOf(block, size));
    blocks = [...groups].map(([block, children]): readonly [number, Rules] => {
      const address = fromNumber(block);
      const name = `CLAW-VIP-${address}-${bits}`;
      add(name, rulesOf(children));
      return [block, [`-d ${address}/${bits} -j ${name}`]];
    });
  }
  add(SERVICES_CHAIN, [...rulesOf(blocks), '-j ACCEPT']);
  return chains;
}

/** One child is most often the rules of a leaf, which then stay the same array. */
function rulesOf(children: readonly (readonly [number, Rules])[]): Rules {
  const [only] = children;
  return only !== undefined && children.length === 1 ? only[1] : children.flatMap(([, rules]) => rules);
}

/** Prefix lengths of the blocks below the range, deepest first: 28, 24, 20 for a /16. */
function treeLevels(range: Cidr): number[] {
  const { prefix } = bounds(range);
  const levels: number[] = [];
  for (let bits = prefix + LEVEL_BITS; bits < 32; bits += LEVEL_BITS) levels.unshift(bits);
  return levels;
}

function blockOf(address: number, size: number): number {
  return address - (address % size);
}

function sameRules(a: ServiceRules, b: ServiceRules): boolean {
  return sameLines(a.inBlock, b.inBlock) && a.chain?.name === b.chain?.name && sameLines(a.chain?.rules ?? [], b.chain?.rules ?? []);
}

function sameLines(a: Rules, b: Rules): boolean {
  return a === b || (a.length === b.length && a.every((line, index) => line === b[index]));
}
