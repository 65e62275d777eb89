/** Looks whether the node's addresses and routes and the host ends of the workloads' links are there, and says in words what is not; reads only. */
import { readFile } from 'node:fs/promises';
import type { NodeNetwork, WorkloadLink } from '../compile/kernel-state.ts';
import { OWN_PROTOCOL, readIpState, type IpState } from './ip-command.ts';
import { openLinks } from './link.ts';

export interface DesiredNetwork {
  readonly nodeNetwork: NodeNetwork;
  readonly links: readonly WorkloadLink[];
}

export interface NetworkDrift {
  /** What the node itself is missing. */
  readonly node: readonly string[];
  /** The links that are not whole, each with what it is missing. */
  readonly links: readonly { readonly link: WorkloadLink; readonly words: readonly string[] }[];
}

/** One process, whatever the number of workloads. Throws ClawError `PROCESS_FAILED` or `MISSING_BINARY`. */
export async function checkNetwork({ nodeNetwork, links }: DesiredNetwork, signal?: AbortSignal): Promise<NetworkDrift> {
  const [state, forwarding, { netns }] = await Promise.all([readIpState({ signal }), readFile('/proc/sys/net/ipv4/ip_forward', 'utf8'), openLinks().list()]);
  const held = indexed(state);
  return {
    node: [...(forwarding.trim() === '1' ? [] : ['forwarding (ip_forward) was off']), ...nodeDamage(held, nodeNetwork)],
    links: links.map((link) => ({ link, words: linkDamage(held, { link, netns: new Set(netns) }) })).filter(({ words }) => words.length > 0),
  };
}

interface Held {
  readonly up: ReadonlySet<string>;
  readonly interfaces: ReadonlySet<string>;
  /** `address device` */
  readonly addresses: ReadonlySet<string>;
  /** `type destination`, of our protocol; `destination device` for those that lead to an interface. */
  readonly routes: ReadonlySet<string>;
}

function indexed({ interfaces, routes }: IpState): Held {
  return {
    up: new Set(interfaces.filter(({ flags }) => flags.includes('UP')).map(({ name }) => name)),
    interfaces: new Set(interfaces.map(({ name }) => name)),
    addresses: new Set(interfaces.flatMap(({ name, addresses }) => addresses.map(({ local }) => `${local} ${name}`))),
    routes: new Set(
      routes.filter(({ protocol }) => protocol === OWN_PROTOCOL).map(({ type, dst, dev }) => (type === 'unicast' ? `${withPrefix(dst)} ${dev ?? ''}` : `${type} ${withPrefix(dst)}`)),
    ),
  };
}

function nodeDamage({ up, addresses, routes }: Held, { gateway, clusterIpRange, subnet }: NodeNetwork): string[] {
  return [
    ...(up.has('lo') ? [] : ['interface lo was down']),
    ...(addresses.has(`${gateway} lo`) ? [] : [`gateway address ${gateway} on lo was missing`]),
    ...(routes.has(`local ${clusterIpRange}`) ? [] : [`local route of the VIP range ${clusterIpRange} was missing`]),
    ...(routes.has(`unreachable ${subnet}`) ? [] : [`route of the workload subnet ${subnet} was missing`]),
  ];
}

function linkDamage(held: Held, { link, netns }: { link: WorkloadLink; netns: ReadonlySet<string> }): string[] {
  const { hostInterface, ip, gateway } = link;
  if (!netns.has(link.netns)) return [`network namespace ${link.netns} was missing`];
  if (!held.interfaces.has(hostInterface)) return [`interface ${hostInterface} was missing`];
  return [
    ...(held.up.has(hostInterface) ? [] : [`interface ${hostInterface} was down`]),
    ...(held.addresses.has(`${gateway} ${hostInterface}`) ? [] : [`gateway address ${gateway} on ${hostInterface} was missing`]),
    // An interface that is down has lost its routes.
    ...(held.routes.has(`${withPrefix(ip)} ${hostInterface}`) ? [] : [`route to ${ip} through ${hostInterface} was missing`]),
  ];
}

/** iproute2 leaves out the prefix length of a single address. */
function withPrefix(destination: string): string {
  return destination.includes('/') ? destination : `${destination}/32`;
}
