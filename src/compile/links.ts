/** The veth pairs and addresses of this node's workloads. Pure. */
import { bounds, type Ipv4 } from '../model/address.ts';
import { WORKLOAD_INTERFACE_PREFIX, type Node } from '../model/node.ts';
import type { Workload } from '../model/workload.ts';
import type { NamespaceOwner, NodeNetwork, WorkloadLink } from './kernel-state.ts';

/** One link per workload that the store places on this node, also while it starts, stops or has ended. That of a workload which did not change stays the same object. */
export function linksCompiler(node: Node): (workloads: Iterable<Workload>) => WorkloadLink[] {
  const { prefix } = bounds(node.subnet);
  const known = new WeakMap<Workload, WorkloadLink>();
  const linkOf = (workload: Workload): WorkloadLink => {
    const link = known.get(workload) ?? compileLink(node, workload, prefix);
    known.set(workload, link);
    return link;
  };
  return (workloads) => [...workloads].filter((workload) => workload.node === node.id).map(linkOf).toSorted((a, b) => (a.id < b.id ? -1 : 1));
}

function compileLink(node: Node, workload: Workload, prefix: number): WorkloadLink {
  return {
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
    prefix,
    mtu: node.mtu,
  };
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
