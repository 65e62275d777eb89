/** Which UDP translations are wanted, and which conntrack entries must go because their endpoint is gone. Pure. */
import type { Ipv4 } from '../model/address.ts';
import type { Service } from '../model/service.ts';
import type { EndpointsOf } from './endpoints.ts';
import type { ConntrackFlush } from './kernel-state.ts';

/** A virtual IP and port, and the endpoint's address and port that it is translated to. */
export interface UdpFlow {
  readonly clusterIp: Ipv4;
  readonly servicePort: number;
  readonly endpointIp: Ipv4;
  readonly endpointPort: number;
}

/** Every UDP translation, by `udpFlowKey`. */
export type UdpFlows = ReadonlyMap<string, UdpFlow>;

export function udpFlowKey({ clusterIp, servicePort, endpointIp, endpointPort }: UdpFlow): string {
  return `${clusterIp}:${servicePort} ${endpointIp}:${endpointPort}`;
}

export function udpFlows(services: Iterable<Service>, endpointsOf: EndpointsOf): UdpFlows {
  const flows = new Map<string, UdpFlow>();
  for (const service of services) {
    if (!service.ports.some((port) => port.protocol === 'udp')) continue;
    for (const endpoint of endpointsOf(service)) {
      if (!endpoint.healthy) continue;
      for (const port of endpoint.ports.filter(({ protocol }) => protocol === 'udp')) {
        const flow = { clusterIp: service.clusterIp, servicePort: port.servicePort, endpointIp: endpoint.ip, endpointPort: port.port };
        flows.set(udpFlowKey(flow), flow);
      }
    }
  }
  return flows;
}

/**
 * What to flush when `before` has become `after`. A UDP client that goes on sending keeps its entry alive for ever, and with
 * it the way to an endpoint or port that no longer exists. All flows between the two addresses go: what is still wanted is
 * translated again with its next datagram.
 */
export function staleUdpFlows(before: UdpFlows, after: UdpFlows): ConntrackFlush[] {
  const gone = [...before].filter(([key]) => !after.has(key)).map(([, { clusterIp, endpointIp }]) => ({ clusterIp, endpointIp }));
  const pairs = new Map(gone.map((flow) => [`${flow.clusterIp} ${flow.endpointIp}`, flow]));
  return [...pairs.values()].map((flow) => ({ type: 'udp-endpoint', ...flow }));
}
