/** Turns a policy's rules into terms, each of which becomes one iptables rule. Pure. */
import type { Cidr } from '../model/address.ts';
import { bounds } from '../model/address.ts';
import { selectorText } from '../model/label-selector.ts';
import type { PolicyPeer, PolicyPort, PolicyRule } from '../model/policy.ts';
import { peerMatches } from '../policy/peer.ts';
import { DNS_PORT, type NamespaceLabels, type PolicyParts, type PolicyWorkload } from '../policy/parties.ts';
import { withoutHoles } from './cidr-holes.ts';
import type { MemberSet, MemberSets } from './member-sets.ts';

/** Where a rule is asked: between workloads and others, or on a workload's way to its own node. */
export type Place = 'ingress' | 'egress' | 'host';

/** One iptables rule without its target. */
export interface Term {
  /** The same for terms that ask the same. */
  readonly key: string;
  /** `-s 10.0.0.0/8`, or empty. */
  readonly address: string;
  readonly set?: { readonly members: MemberSet; readonly side: 'src' | 'dst' | 'dst,dst' };
  readonly protocol?: PolicyPort['protocol'];
  /** `80`, `80:90`, or several of these divided by commas. */
  readonly ports?: string;
  /** A port by name, to be resolved on the workload that is connected to: only with `ingress`. */
  readonly named?: string;
}

export interface TermContext {
  readonly policy: Pick<PolicyParts, 'namespace' | 'origin'>;
  readonly namespaces: () => NamespaceLabels;
  readonly sets: MemberSets;
}

/** The terms of all rules that a policy has for the place; those which ask the same stand there once. */
export function compileTerms(rules: readonly PolicyRule[], place: Place, context: TermContext): Term[] {
  const terms = rules.flatMap((rule) => termsOf(rule, place, context));
  return [...new Map(terms.map((term) => [term.key, term])).values()];
}

type Whom = Pick<Term, 'address' | 'set'>;
type What = Pick<Term, 'protocol' | 'ports' | 'named'>;

function termsOf(rule: PolicyRule, place: Place, context: TermContext): Term[] {
  const whom = place === 'host' ? onTheNode(rule.peers) : peersOf(rule.peers, { place, context });
  const what = rule.ports.length === 0 ? [{}] : numbered(rule.ports);
  const names = rule.ports.flatMap(({ port, protocol }) => (typeof port === 'string' ? [{ port, protocol }] : []));
  const byName = place === 'ingress' ? whom.flatMap((who) => names.map(({ port, protocol }) => keyed(who, { named: port, protocol }))) : [];
  const byNameElsewhere = place === 'egress' ? names.map((named) => namedElsewhere(rule.peers, { named, context })) : [];
  return [...whom.flatMap((who) => what.map((ports) => keyed(who, ports))), ...byName, ...byNameElsewhere];
}

function keyed(whom: Whom, what: What): Term {
  const key = [whom.address, whom.set === undefined ? '' : `${whom.set.members.key} ${whom.set.side}`, what.protocol ?? '', what.ports ?? '', what.named ?? ''].join('|');
  return { key, ...whom, ...what };
}

interface PeersAsked {
  readonly place: 'ingress' | 'egress';
  readonly context: TermContext;
}

/** One set for all selectors of a rule, since any of them will do; ranges by themselves. */
function peersOf(peers: readonly PolicyPeer[], { place, context }: PeersAsked): Whom[] {
  if (peers.length === 0) return [{ address: '' }];
  const side = place === 'ingress' ? 'src' : 'dst';
  const selectors = peers.filter((peer) => !('cidr' in peer) && !('entity' in peer));
  const ranges = peers.flatMap((peer): Whom[] => {
    if (!('cidr' in peer)) return [];
    if (peer.except === undefined) return [{ address: onAddress(side, peer.cidr) }];
    const fixed = withoutHoles(peer);
    if (fixed.length === 0) return [];
    // iptables-save and ipset print the network of one address without its /32.
    const key = `ranges ${fixed.join(' ')}`;
    const members = context.sets.ask({ key, type: 'hash:net', membersOf: () => [], fixed: fixed.map((range) => range.replace(/\/32$/, '')) });
    return [{ address: '', set: { members, side } }];
  });
  if (selectors.length === 0) return ranges;
  const members = context.sets.ask({
    key: `workloads ${peersKey(selectors, context)}`,
    type: 'hash:ip',
    membersOf: (workload) => (isAnyOf(selectors, workload, context) && workload.ip !== undefined ? [workload.ip] : []),
  });
  return [{ address: '', set: { members, side } }, ...ranges];
}

/** On the way to its own node the destination is the node, whatever its address: no selector means it. */
function onTheNode(peers: readonly PolicyPeer[]): Whom[] {
  if (peers.length === 0 || peers.some((peer) => 'entity' in peer && peer.entity === 'host')) return [{ address: '' }];
  return peers.flatMap((peer): Whom[] => ('cidr' in peer ? withoutHoles(peer).map((range) => ({ address: onAddress('dst', range) })) : []));
}

/** Each destination resolves the name for itself, so the set holds addresses with ports. */
function namedElsewhere(peers: readonly PolicyPeer[], { named, context }: { named: { port: string; protocol: PolicyPort['protocol'] }; context: TermContext }): Term {
  const members = context.sets.ask({
    key: `ports ${named.protocol} ${named.port} of ${peersKey(peers, context)}`,
    type: 'hash:ip,port',
    membersOf: (workload) => {
      const { ip } = workload;
      if (ip === undefined || !isAnyOf(peers, workload, context)) return [];
      return workload.ports.filter(({ name, protocol }) => name === named.port && protocol === named.protocol).map(({ port }) => `${ip},${named.protocol}:${port}`);
    },
  });
  return keyed({ address: '', set: { members, side: 'dst,dst' } }, { protocol: named.protocol });
}

function isAnyOf(peers: readonly PolicyPeer[], workload: PolicyWorkload, { policy, namespaces }: TermContext): boolean {
  return peers.length === 0 || peers.some((peer) => peerMatches(peer, { kind: 'workload', workload }, { policy, namespaces: namespaces() }));
}

/** Different for peers that mean others: two questions with one key would share a set. */
function peersKey(peers: readonly PolicyPeer[], { policy }: TermContext): string {
  if (peers.length === 0) return 'everyone';
  return peers
    .map((peer) => {
      if ('entity' in peer) return `entity ${peer.entity}`;
      if ('cidr' in peer) return `${peer.cidr}!${(peer.except ?? []).join('!')}`;
      const { selector = {}, namespaceSelector } = peer;
      return `{${selectorText(selector)}} in ${namespaceSelector === undefined ? policy.namespace : `{${selectorText(namespaceSelector)}}`}`;
    })
    .toSorted()
    .join(' or ');
}

/** iptables-save prints no match for a range that holds every address. */
function onAddress(side: 'src' | 'dst', range: Cidr): string {
  return bounds(range).prefix === 0 ? '' : `${side === 'src' ? '-s' : '-d'} ${range}`;
}

/** The multiport match holds 15 numbers, of which a range takes two. */
const MULTIPORT_MOST = 15;

function numbered(ports: readonly PolicyPort[]): What[] {
  return [...Map.groupBy(ports, ({ protocol }) => protocol)].flatMap(([protocol, entries]) => {
    if (entries.some(({ port }) => port === undefined)) return [{ protocol }];
    const numbers = new Set(entries.flatMap(({ port, endPort }) => (typeof port === 'number' ? [endPort === undefined || endPort === port ? `${port}` : `${port}:${endPort}`] : [])));
    return chunks([...numbers]).map((list) => ({ protocol, ports: list.join(',') }));
  });
}

function chunks(numbers: readonly string[]): string[][] {
  const all: string[][] = [];
  let room = 0;
  for (const number of numbers) {
    const size = number.includes(':') ? 2 : 1;
    if (room < size) {
      all.push([]);
      room = MULTIPORT_MOST;
    }
    all.at(-1)?.push(number);
    room -= size;
  }
  return all;
}

/** DNS, whatever address of the node it is asked at. */
export const RESOLVER_TERMS: readonly Term[] = (['tcp', 'udp'] as const).map((protocol) => keyed({ address: '' }, { protocol, ports: `${DNS_PORT}` }));

/** Whether a workload with these ports is connected to by the name, and on which numbers. */
export function resolveNamed(term: Term, { ports }: Pick<PolicyWorkload, 'ports'>): Term[] {
  const { named, protocol } = term;
  if (named === undefined || protocol === undefined) return [term];
  const numbers = ports.filter((port) => port.name === named && port.protocol === protocol).map(({ port }) => port);
  return numbers.map((port) => keyed({ address: term.address, ...(term.set === undefined ? {} : { set: term.set }) }, { protocol, ports: `${port}` }));
}

/** The rule as iptables-save prints it; undefined while its set is empty. */
export function ruleText({ address, set, protocol, ports }: Term, target: string): string | undefined {
  const members = set?.members.current();
  if (set !== undefined && members === undefined) return undefined;
  const parts = [
    address,
    protocol === undefined ? '' : `-p ${protocol}`,
    // Matches are asked in their order, and a port is compared faster than a set is searched.
    protocol === undefined || ports === undefined ? '' : portMatch(protocol, ports),
    set === undefined || members === undefined ? '' : `-m set --match-set ${members.name} ${set.side}`,
    target,
  ];
  return parts.filter((part) => part !== '').join(' ');
}

function portMatch(protocol: string, ports: string): string {
  return ports.includes(',') ? `-m multiport --dports ${ports}` : `-m ${protocol} --dport ${ports}`;
}
