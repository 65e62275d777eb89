/** Which TCP translations a service makes, and where the two ends of a translated connection are. Pure. */
import type { Endpoint } from '../model/observed.ts';
import type { Service } from '../model/service.ts';
import type { Workload } from '../model/workload.ts';
import { netnsOf } from './links.ts';
import { udpFlowKey, type UdpFlow } from './udp-flows.ts';

/** A virtual IP and port, and the endpoint's address and port that it is translated to. */
export type TcpFlow = UdpFlow;

/** An address and port that a socket has, as the kernel writes them. */
export interface SocketAddress {
  readonly ip: string;
  readonly port: number;
}

/** As the kernel tracks it, translated or not. */
export interface TcpConnection {
  readonly state: string;
  /** What the client dialled, and who answers: two addresses when it was translated, one when not. */
  readonly dialled: SocketAddress;
  readonly endpoint: SocketAddress;
  /** The client, as it knows itself and as the endpoint knows it. */
  readonly client: SocketAddress;
  readonly clientSeen: SocketAddress;
}

/** One socket of a connection: in a network namespace below /run/netns, or in that of the node. */
export interface SocketEnd {
  readonly netns: string | undefined;
  readonly local: SocketAddress;
  readonly remote: SocketAddress;
}

/** The key of a flow, or of that which a connection belongs to. */
export function tcpFlowKey(of: TcpFlow | TcpConnection): string {
  return 'clusterIp' in of ? udpFlowKey(of) : `${of.dialled.ip}:${of.dialled.port} ${of.endpoint.ip}:${of.endpoint.port}`;
}

/** By `tcpFlowKey`. */
export function tcpFlows({ clusterIp }: Service, endpoints: readonly Endpoint[]): ReadonlyMap<string, TcpFlow> {
  const flows = endpoints.flatMap(({ healthy, ip, ports }) => {
    const tcp = healthy ? ports.filter(({ protocol }) => protocol === 'tcp') : [];
    return tcp.map(({ servicePort, port }): TcpFlow => ({ clusterIp, servicePort, endpointIp: ip, endpointPort: port }));
  });
  return new Map(flows.map((flow) => [tcpFlowKey(flow), flow]));
}

/** Whether anything may still be sent. After LAST_ACK, TIME_WAIT and CLOSE the entry only lingers; one in SYN_SENT never began. */
export function isLive({ state }: TcpConnection): boolean {
  return ['SYN_RECV', 'ESTABLISHED', 'FIN_WAIT', 'CLOSE_WAIT'].includes(state);
}

/**
 * The end of the connection that lies on this node: the endpoint's when that is a workload, else the client's when that is a
 * workload or the node itself (which has the address `nodeIp`). What ends it there is told to the other end.
 */
export function localEnd({ dialled, endpoint, client, clientSeen }: TcpConnection, { workloads, nodeIp }: Here): SocketEnd | undefined {
  const server = workloads.get(endpoint.ip);
  if (server !== undefined) return { netns: netnsOf(server.id), local: endpoint, remote: clientSeen };
  const dialler = workloads.get(client.ip);
  if (dialler !== undefined) return { netns: netnsOf(dialler.id), local: client, remote: dialled };
  return client.ip === nodeIp ? { netns: undefined, local: client, remote: dialled } : undefined;
}

interface Here {
  /** Those of this node, by address. */
  readonly workloads: ReadonlyMap<string, Workload>;
  readonly nodeIp: string;
}
