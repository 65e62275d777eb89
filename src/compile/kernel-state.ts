/** The vocabulary between compile steps and drivers: what the kernel shall hold, as plain data. No logic. */
import type { Cidr, Ipv4 } from '../model/address.ts';

export const TABLES = ['raw', 'filter', 'nat'] as const;
/** In the order in which they are committed: what is filtered first, what is translated last. */
export type Table = (typeof TABLES)[number];

/**
 * The rules of one chain of ours, each without its `-A CHAIN` and in exactly the form in which `iptables-save`
 * prints it, so that what the kernel holds can be compared as text. The same array object means the same rules.
 */
export type Rules = readonly string[];

/**
 * A rule of ours in a chain that is not ours. `first`: it must stay the first rule; `last`: anywhere, appended. A chain that is
 * `optional` comes with a program that may not be there: the rule is wanted only while the chain exists.
 */
export interface Jump {
  readonly chain: string;
  readonly rule: string;
  readonly place: 'first' | 'last';
  readonly optional?: true;
}

export interface TableState {
  /** By chain name; every name starts with `CLAW-`. */
  readonly chains: ReadonlyMap<string, Rules>;
  readonly jumps: readonly Jump[];
}

export type IptablesState = Readonly<Record<Table, TableState>>;

export interface IpsetState {
  readonly name: string;
  /** Type and options as `ipset save` prints them after the name, e.g. `hash:net,net family inet maxelem 65536`. */
  readonly create: string;
  readonly members: ReadonlySet<string>;
}

/**
 * Whose network namespace it is. `own`: it is made and removed with the link. `container`: it comes and goes with a container of
 * ours, and all of it is ours to furnish. `foreign`: nothing in it is ours but our interface.
 */
export type NamespaceOwner = 'own' | 'container' | 'foreign';

/** The network of one workload: a veth pair between the node and a network namespace. */
export interface WorkloadLink {
  readonly id: string;
  /** The host end, `clawv` and the id. */
  readonly hostInterface: string;
  /** The network namespace's name below /run/netns; to one that is not our `own` it is given before the link is made. */
  readonly netns: string;
  readonly owner: NamespaceOwner;
  /** The interface inside. */
  readonly peer: string;
  /** What a foreign namespace with a default route of its own reaches through us. */
  readonly ranges: readonly Cidr[];
  readonly ip: Ipv4;
  readonly mac: string;
  readonly hostMac: string;
  readonly gateway: Ipv4;
  readonly prefix: number;
  readonly mtu: number;
}

/** What the node itself needs: the gateway address on `lo`, the local route of the VIP range, forwarding. */
export interface NodeNetwork {
  readonly gateway: Ipv4;
  readonly clusterIpRange: Cidr;
  readonly subnet: Cidr;
}

/**
 * Conntrack entries that must go: those of a service's VIP towards an endpoint or one of its ports, all of a released workload, or
 * those from one address to one port, by way of what was dialled, that policies forbid.
 */
export type ConntrackFlush =
  | { readonly type: 'tcp-endpoint'; readonly clusterIp: Ipv4; readonly servicePort: number; readonly endpointIp: Ipv4; readonly endpointPort: number }
  | ForbiddenFlow
  | { readonly type: 'udp-endpoint'; readonly clusterIp: Ipv4; readonly endpointIp: Ipv4 }
  | { readonly type: 'address'; readonly ip: Ipv4 };

export interface ForbiddenFlow {
  readonly type: 'forbidden';
  readonly protocol: string;
  readonly from: Ipv4;
  readonly dialled: { readonly ip: Ipv4; readonly port: number };
  readonly endpoint: { readonly ip: Ipv4; readonly port: number };
}
