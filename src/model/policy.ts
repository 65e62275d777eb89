/** A network policy as the store keeps it, whichever form it was written in; imports nothing local but its parts. */
import { z } from 'zod';
import { bounds, cidr, port } from './address.ts';
import { labelSelector } from './label-selector.ts';
import { name, portName } from './name.ts';
import { recordBase } from './record.ts';

/** What a policy can tell apart; services know only the first two. */
export const policyProtocol = z.enum(['tcp', 'udp', 'sctp']);
export type PolicyProtocol = z.infer<typeof policyProtocol>;

/** Without a port: all ports of the protocol. A name is resolved on the workload that is connected to. */
export const policyPort = z
  .strictObject({ protocol: policyProtocol, port: z.union([port, portName]).optional(), endPort: port.optional() })
  .superRefine((given, context) => {
    if (given.endPort === undefined) return;
    if (typeof given.port !== 'number') context.addIssue({ code: 'custom', path: ['endPort'], message: 'endPort needs a port number to start from', input: given.endPort });
    else if (given.endPort < given.port) context.addIssue({ code: 'custom', path: ['endPort'], message: `endPort ${given.endPort} is below port ${given.port}`, input: given.endPort });
  });
export type PolicyPort = z.infer<typeof policyPort>;

const cidrPeer = z.strictObject({ cidr, except: z.array(cidr).max(256).optional() }).superRefine((given, context) => {
  const block = bounds(given.cidr);
  for (const [index, range] of (given.except ?? []).entries()) {
    const hole = bounds(range);
    if (hole.first >= block.first && hole.last <= block.last) continue;
    context.addIssue({ code: 'custom', path: ['except', index], message: `${range} does not lie in ${given.cidr}`, input: range });
  }
});

/** `selector` without `namespaceSelector`: workloads of the policy's own namespace; with it, both must hold. */
const selectorPeer = z.strictObject({ selector: labelSelector.optional(), namespaceSelector: labelSelector.optional() });

/** The node's own processes, or the ingress proxy: neither is known by an address. */
export const entity = z.enum(['host', 'ingress']);
const entityPeer = z.strictObject({ entity });

export const policyPeer = z.union([cidrPeer, entityPeer, selectorPeer]);
export type PolicyPeer = z.infer<typeof policyPeer>;
export type CidrPeer = z.infer<typeof cidrPeer>;
export type SelectorPeer = z.infer<typeof selectorPeer>;

/** No peers: everyone. No ports: everything, also what has no ports. */
export const policyRule = z.strictObject({ peers: z.array(policyPeer).max(256), ports: z.array(policyPort).max(256) });
export type PolicyRule = z.infer<typeof policyRule>;

export const policyMode = z.enum(['enforce', 'audit']);

export const policy = recordBase.extend({
  namespace: name,
  name,
  /** An imported one follows Kubernetes also where ours are stricter: towards the node, and in who the ingress proxy is. */
  origin: z.enum(['native', 'kubernetes']),
  selector: labelSelector,
  /** Absent: this direction is not touched. Empty: nothing is allowed in it. */
  ingress: z.array(policyRule).max(256).optional(),
  egress: z.array(policyRule).max(256).optional(),
  /** `audit`: what it would deny passes and is told. */
  mode: policyMode,
});
export type Policy = z.infer<typeof policy>;

export const DIRECTIONS = ['ingress', 'egress'] as const;
export type Direction = (typeof DIRECTIONS)[number];
