/** Which UDP translations are wanted, and which conntrack entries must go because their endpoint is gone. Pure. */
import type { Ipv4 } from '../model/address.ts';
import type { Service } from '../model/service.ts';
import type { EndpointsOf } from './endpoints.ts';
import type { ConntrackFlush } from './kernel-state.ts';

/** `clusterIp endpointIp` of every UDP translation. */
export type UdpFlows = ReadonlyMap<string, { readonly clusterIp: Ipv4; readonly endpointIp: Ipv4 }>;

export function udpFlows(services: Iterable<Service>, endpointsOf: EndpointsOf): UdpFlows {
  const flows = new Map<string, { clusterIp: Ipv4; endpointIp: Ipv4 }>();
  for (const service of services) {
    if (!service.ports.some((port) => port.protocol === 'udp')) continue;
    for (const endpoint of endpointsOf(service)) {
      if (!endpoint.healthy || !endpoint.ports.some((port) => port.protocol === 'udp')) continue;
      flows.set(`${service.clusterIp} ${endpoint.ip}`, { clusterIp: service.clusterIp, endpointIp: endpoint.ip });
    }
  }
  return flows;
}

/**
 * What to flush when `before` has become `after`. A UDP client that goes on sending keeps its entry alive for ever, and
 * with it the way to an endpoint that no longer exists.
 */
export function staleUdpFlows(before: UdpFlows, after: UdpFlows): ConntrackFlush[] {
  return [...before].filter(([key]) => !after.has(key)).map(([, flow]) => ({ type: 'udp-endpoint', ...flow }));
}
