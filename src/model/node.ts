/** One machine: its ranges and addresses, as compile steps and allocators need them; imports nothing local but its parts. */
import { z } from 'zod';
import { cidr, fromNumber, bounds, type Cidr, type Ipv4 } from './address.ts';

export const ranges = z.strictObject({
  clusterIp: cidr.prefault('10.201.0.0/16').describe('Virtual IPs of services'),
  workload: cidr.prefault('10.200.0.0/16').describe('Workload addresses; each node owns one /24 of it'),
  mesh: cidr.prefault('10.100.0.0/16').describe('Mesh addresses of nodes'),
});
export type Ranges = z.infer<typeof ranges>;

export interface Node {
  readonly id: string;
  /** 1 to 255: the third octet of the node's workload subnet. */
  readonly number: number;
  readonly ranges: Ranges;
  /** 10.200.N.0/24. */
  readonly subnet: Cidr;
  /** 10.200.N.1: every workload's gateway, and the node's own source address towards VIPs. */
  readonly gateway: Ipv4;
  /** Bytes; the underlay's less 80 for WireGuard. */
  readonly mtu: number;
  /** Source ranges outside this node's own interfaces that may open connections to workloads and VIPs. */
  readonly exposeTo: readonly Cidr[];
  /**
   * Whether new connections between foreign networks are dropped. They are when forwarding was off before we came and the
   * operator did not ask for it: turning it on for our workloads must not make the machine a router for everybody.
   */
  readonly dropForeignForwarding: boolean;
}

/**
 * The /24 that node `number` owns, and its gateway (the first host address): of a /16 the one with that third octet, of a
 * /24 the range itself. Undefined where the range holds no such /24.
 */
export function nodeSubnet(workloadRange: Cidr, number: number): { subnet: Cidr; gateway: Ipv4 } | undefined {
  const { first, last, prefix } = bounds(workloadRange);
  const base = prefix === 24 ? first : first + number * 256;
  if (prefix > 24 || base > last) return undefined;
  return { subnet: cidr.parse(`${fromNumber(base)}/24`), gateway: fromNumber(base + 1) };
}

export const MESH_INTERFACE = 'claw0';
/** Host ends of workloads. Matching `claw+` would also match the mesh interface, so they have a prefix of their own. */
export const WORKLOAD_INTERFACE_PREFIX = 'clawv';
