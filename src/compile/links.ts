/** The veth pairs and addresses of this node's workloads. Pure. */
import { bounds, type Ipv4 } from '../model/address.ts';
import { WORKLOAD_INTERFACE_PREFIX, type Node } from '../model/node.ts';
import type { Workload } from '../model/workload.ts';
import type { NamespaceOwner, NodeNetwork, WorkloadLink } from './kernel-state.ts';

/** One link per workload that the store places on this node, also while it starts, stops or has ended. */
export function compileLinks(node: Node, workloads: Iterable<Workload>): WorkloadLink[] {
  return [...workloads]
    .filter((workload) => workload.node === node.id)
    .map((workload) => ({
      id: workload.id,
      hostInterface: `${WORKLOAD_INTERFACE_PREFIX}${workload.id}`,
      netns: netnsOf(workload.id),
      owner: ownerOf(workload),
      peer: workload.runtime === 'attached' ? ATTACHED_INTERFACE : 'eth0',
      ranges: [node.ranges.clusterIp, node.ranges.workload, node.ranges.mesh],
      ip: workload.ip,
      mac: macOf('02:c1', workload.ip),
      hostMac: macOf('02:c0', workload.ip),
      gateway: node.gateway,
      prefix: bounds(node.subnet).prefix,
      mtu: node.mtu,
    }))
    .toSorted((a, b) => (a.id < b.id ? -1 : 1));
}

/** Docker, podman and people call theirs eth0. */
const ATTACHED_INTERFACE = 'claw-mesh';

function ownerOf({ runtime }: Workload): NamespaceOwner {
  return runtime === 'process' ? 'own' : runtime === 'docker' ? 'container' : 'foreign';
}

/** The name below /run/netns of a workload's network namespace. */
export function netnsOf(workloadId: string): string {
  return `claw-${workloadId}`;
}

export function compileNodeNetwork(node: Node): NodeNetwork {
  return { gateway: node.gateway, clusterIpRange: node.ranges.clusterIp, subnet: node.subnet };
}

/** A locally administered MAC that follows from the address: the same after every restart, unique while the address is. */
function macOf(prefix: string, ip: Ipv4): string {
  return [prefix, ...ip.split('.').map((octet) => Number(octet).toString(16).padStart(2, '0'))].join(':');
}
