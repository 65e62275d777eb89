/** Everything that this node's kernel shall hold, from the desired and the observed state. Pure: no I/O, no clock. */
import type { Desired } from '../model/observed.ts';
import type { Node } from '../model/node.ts';
import type { EndpointsOf } from './endpoints.ts';
import type { IpsetState, IptablesState, NodeNetwork, WorkloadLink } from './kernel-state.ts';
import { compileLinks, compileNodeNetwork } from './links.ts';
import { compileHairpinSet, compileMasquerade } from './masquerade.ts';
import { compileFilter, compileRaw } from './netpol.ts';
import { compileServices, SERVICES_CHAIN } from './services.ts';

export interface KernelState {
  readonly nodeNetwork: NodeNetwork;
  readonly links: readonly WorkloadLink[];
  readonly ipsets: readonly IpsetState[];
  readonly iptables: IptablesState;
}

export function compileKernel(node: Node, desired: Desired, endpointsOf: EndpointsOf): KernelState {
  const links = compileLinks(node, desired.workloads.values());
  const vips = node.ranges.clusterIp;
  const masquerade = compileMasquerade(node);
  return {
    nodeNetwork: compileNodeNetwork(node),
    links,
    ipsets: [compileHairpinSet(links)],
    iptables: {
      raw: compileRaw(links),
      filter: compileFilter(node, links),
      nat: {
        chains: new Map([...masquerade.chains, ...compileServices(vips, desired.services.values(), endpointsOf)]),
        jumps: [
          ...['PREROUTING', 'OUTPUT'].map((chain) => ({
            chain,
            rule: `-d ${vips} -m comment --comment clawnode -j ${SERVICES_CHAIN}`,
            place: 'first' as const,
          })),
          ...masquerade.jumps,
        ],
      },
    },
  };
}
