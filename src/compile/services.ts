/** Services as nat rules: a tree of chains over the VIP range, kept from one compile to the next. No I/O, no clock. */
import { bounds, fromNumber, type Cidr } from '../model/address.ts';
import type { Service } from '../model/service.ts';
import type { EndpointsOf } from './endpoints.ts';
import type { IpsetState, Rules } from './kernel-state.ts';
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
  /** The sets that these chains refer to; the same array as long as they are the same. */
  sets(): readonly IpsetState[];
}

export function servicesCompiler(range: Cidr): ServicesCompiler {
  const tree = treeOf(range);
  const leafSize = 2 ** (32 - tree.leafBits);
  const known = new Map<string, ServiceRules>();
  const leaves = new Map<number, Leaf>();
  let chains: ReadonlyMap<string, Rules> | undefined;
  // Of the few services that have any.
  const setsOf = new Map<string, readonly IpsetState[]>();
  let sets: readonly IpsetState[] | undefined;
  const takeSets = (key: string, made: readonly IpsetState[]): void => {
    if (made.length === 0 && !setsOf.has(key)) return;
    sets = undefined;
    if (made.length === 0) setsOf.delete(key);
    else setsOf.set(key, made);
  };

  /** Takes one service in, in its new form or not at all any more. Gives the leaves that have to be put together anew. */
  const take = (key: string, { services, endpointsOf }: ServicesInput): number[] => {
    const before = known.get(key);
    const service = services.get(key);
    const endpoints = service === undefined ? undefined : endpointsOf(service);
    if (before !== undefined && before.service === service && before.endpoints === endpoints) return [];
    const made = service === undefined || endpoints === undefined ? undefined : compileServiceRules(service, endpoints);
    const same = before !== undefined && made !== undefined && before.vip === made.vip && sameRules(before, made);
    const after = same ? { ...made, inBlock: before.inBlock, chains: before.chains, sets: before.sets } : made;
    const left = before === undefined ? [] : leaveLeaf(leaves, blockOf(before.vip, leafSize), before);
    if (!same) takeSets(key, after?.sets ?? []);
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
      if (chains === undefined || touched.size > 0) chains = withLeaves(chains, { tree, leaves, touched });
      return chains;
    },
    sets: () => (sets ??= [...setsOf.values()].flat()),
  };
}

/** A block of the lowest level. A service without an endpoint has no rule in it: the filter table refuses its connections. */
interface Leaf {
  /** By virtual IP. */
  readonly members: Map<number, ServiceRules>;
  /** The chains that its members have for themselves, as they stand in the compiled state. */
  own: readonly string[];
}

function enterLeaf(leaves: Map<number, Leaf>, block: number, member: ServiceRules): number[] {
  const leaf = leaves.get(block) ?? { members: new Map<number, ServiceRules>(), own: [] };
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

interface Change {
  readonly tree: Tree;
  readonly leaves: Map<number, Leaf>;
  /** The leaves that differ from those in the chains before. */
  readonly touched: ReadonlySet<number>;
}

/** The chains with the touched leaves anew. The levels above differ only when a leaf got its first rule or lost its last. */
function withLeaves(before: ReadonlyMap<string, Rules> | undefined, { tree, leaves, touched }: Change): Map<string, Rules> {
  const chains = new Map(before);
  let sameLeaves = before !== undefined;
  for (const block of touched) {
    const leaf = leaves.get(block);
    if (leaf === undefined) continue;
    for (const name of leaf.own) chains.delete(name);
    const members = [...leaf.members.values()].toSorted((a, b) => a.vip - b.vip);
    const own = members.flatMap((member) => member.chains);
    for (const { name, rules } of own) chains.set(name, rules);
    leaf.own = own.map(({ name }) => name);
    if (members.length === 0) leaves.delete(block);
    const name = blockName(block, tree.leafBits);
    const rules = members.flatMap(({ inBlock }) => inBlock);
    if (chains.has(name) !== rules.length > 0) sameLeaves = false;
    if (rules.length === 0) chains.delete(name);
    else chains.set(name, rules);
  }
  if (!sameLeaves) replaceBranches(chains, tree, [...leaves.keys()].filter((block) => chains.has(blockName(block, tree.leafBits))));
  return chains;
}

/** Puts every level above the leaves anew, from the lowest to the root. */
function replaceBranches(chains: Map<string, Rules>, { levels, leafBits }: Tree, leafBlocks: readonly number[]): void {
  const isBranch = (name: string): boolean => name.startsWith(BLOCK_PREFIX) && !name.endsWith(`-${leafBits}`);
  for (const name of [...chains.keys()].filter(isBranch)) chains.delete(name);
  let children = leafBlocks.toSorted((a, b) => a - b);
  let childBits = leafBits;
  const jumpsTo = (blocks: readonly number[], bits: number): string[] => blocks.map((block) => `-d ${fromNumber(block)}/${bits} -j ${blockName(block, bits)}`);
  for (const bits of levels.slice(1)) {
    const groups = Map.groupBy(children, (child) => blockOf(child, 2 ** (32 - bits)));
    for (const [block, group] of groups) chains.set(blockName(block, bits), jumpsTo(group, childBits));
    children = [...groups.keys()];
    childBits = bits;
  }
  chains.set(SERVICES_CHAIN, [...jumpsTo(children, childBits), '-j ACCEPT']);
}

interface Tree {
  /** Prefix lengths of the blocks below the range, deepest first: 28, 24, 20 for a /16. A range too small for any is one block. */
  readonly levels: readonly number[];
  readonly leafBits: number;
}

function treeOf(range: Cidr): Tree {
  const { prefix } = bounds(range);
  const levels: number[] = [];
  for (let bits = prefix + LEVEL_BITS; bits < 32; bits += LEVEL_BITS) levels.unshift(bits);
  if (levels.length === 0) levels.push(prefix);
  return { levels, leafBits: levels[0] ?? prefix };
}

const BLOCK_PREFIX = 'CLAW-VIP-';

function blockName(block: number, bits: number): string {
  return `${BLOCK_PREFIX}${fromNumber(block)}-${bits}`;
}

function blockOf(address: number, size: number): number {
  return address - (address % size);
}

function sameRules(a: ServiceRules, b: ServiceRules): boolean {
  if (!sameLines(a.inBlock, b.inBlock) || a.chains.length !== b.chains.length) return false;
  return a.chains.every(({ name, rules }, index) => name === b.chains[index]?.name && sameLines(rules, b.chains[index]?.rules ?? []));
}

function sameLines(a: Rules, b: Rules): boolean {
  return a === b || (a.length === b.length && a.every((line, index) => line === b[index]));
}
