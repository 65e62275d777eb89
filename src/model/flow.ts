/** How denied and audited connections are told: by the kernel as events, to people as flows; imports nothing local but its parts. */
import { z } from 'zod';
import { bounds, fromNumber, ipv4, type Cidr, type Ipv4 } from './address.ts';
import { policyMode } from './policy.ts';

/** The netfilter log group of our rules. */
export const NFLOG_GROUP = 200;

/** Where policies are asked: on the way out of the source, into the destination, or from a workload to its own node. */
export const flowPlace = z.enum(['egress', 'ingress', 'host']);
export type FlowPlace = z.infer<typeof flowPlace>;

/** `deny`: it was refused. `audit`: it passed, and a policy in audit mode would have denied it. */
export const flowVerdict = z.enum(['deny', 'audit']);
export type FlowVerdict = z.infer<typeof flowVerdict>;

/** By these the rules tell apart what they log. */
export const NFLOG_PREFIXES = {
  deny: { egress: 'claw deny egress ', ingress: 'claw deny ingress ', host: 'claw deny host ' },
  audit: { egress: 'claw audit egress ', ingress: 'claw audit ingress ', host: 'claw audit host ' },
  selfTest: 'claw selftest',
} as const;

/** The discard port. */
export const SELF_TEST_PORT = 9;

/** What the self-test sends a datagram to: the VIP range's last address, which no service gets. */
export function selfTestAddress(clusterIpRange: Cidr): Ipv4 {
  return fromNumber(bounds(clusterIpRange).last);
}

/** The first packet of a connection as the kernel logged it, addresses after any translation. */
export interface FlowEvent {
  readonly timeMs: number;
  readonly from: Ipv4;
  readonly to: Ipv4;
  /** Undefined where the protocol has no ports. */
  readonly port: number | undefined;
  /** `tcp`, `udp`, `sctp`, `icmp`, or the protocol's number. */
  readonly protocol: string;
  readonly verdict: FlowVerdict;
  readonly place: FlowPlace;
}

export const flow = z.object({
  time: z.string(),
  from: z.string().describe('namespace/name, or IP'),
  fromIp: ipv4,
  to: z.string().describe('namespace/name, IP, or entity:host'),
  toIp: ipv4,
  port: z.int().nullable(),
  protocol: z.string(),
  verdict: flowVerdict,
  direction: flowPlace.describe('Whose side decided; host: from a workload to its node'),
  policy: z.string().nullable().describe('The policies that isolate this side'),
  mode: policyMode,
  count: z.int().describe('Alike within one second'),
});
export type ToldFlow = z.infer<typeof flow>;

export interface FlowQuery {
  readonly sinceMs?: number | undefined;
  /** Either end: `namespace/name` or an address. */
  readonly workload?: string | undefined;
  /** Either end lies in it. */
  readonly namespace?: string | undefined;
  readonly verdict?: FlowVerdict | undefined;
  readonly limit: number;
}

/** Whether events reach us, and how many have. */
export interface FlowLogStatus {
  /** Proved by the last self-test. */
  readonly works: boolean;
  /** Why it does not. */
  readonly reason?: string;
  /** Nothing is known yet: it has just been started. */
  readonly starting: boolean;
  readonly denied: number;
  readonly audited: number;
  /** Events that the kernel logged and could not hand over. */
  readonly dropped: number;
  /** Since when it has listened without a break; what happened before may be missing. */
  readonly listeningSince?: string;
}
