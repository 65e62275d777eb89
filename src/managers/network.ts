/** What `network.status` tells of this node. Reads only. */
import { bounds } from '../model/address.ts';
import { poolStats } from './allocations.ts';
import { page } from './paging.ts';
import { summary } from './services.ts';
import type { World } from './world.ts';

const SERVICES_SHOWN = 50;
/** The regional pools of the mesh, each a /20 of its range. */
const MESH_REGIONS = ['gateway', 'us-west', 'us-east', 'eu-west', 'asia', 'molt'];

export function networkManager(world: World) {
  return {
    status: async () => {
      const { kernel, drift, ingress, storeDriver } = world.health();
      return {
        answer: {
          node: world.node.id,
          mode: world.mode,
          version: world.version,
          mesh: { nodeCount: 1, nodes: [{ id: world.node.id, meshIp: null, region: null }] },
          wireguard: null,
          serviceDiscovery: {
            serviceCount: world.desired.services.size,
            iptablesAvailable: kernel.inSync,
            services: page(world.desired.services, { limit: SERVICES_SHOWN }).items.map((service) => {
              const { protocol: _, ...shown } = summary(world, service);
              return shown;
            }),
          },
          allocator: {
            stats: {
              clusterIps: poolStats(world, { kind: 'clusterIp' }),
              workloadIps: poolStats(world, { kind: 'workload', node: world.node.id }),
              workloadSubnets: { used: 1, free: subnetCount(world) - 1, quarantined: 0 },
              meshIps: Object.fromEntries(MESH_REGIONS.map((region) => [region, { used: 0, free: 4094, quarantined: 0 }])),
            },
          },
          ingress,
          kernel,
          drift,
          store: { driver: storeDriver, revision: world.desired.revision },
        },
      };
    },
  };
}

/** How many /24 subnets the workload range holds. */
function subnetCount(world: World): number {
  return 2 ** Math.max(0, 24 - bounds(world.node.ranges.workload).prefix);
}
