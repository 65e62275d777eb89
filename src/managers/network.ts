/** What `network.status` tells of this node. Reads only. */
import { bounds } from '../model/address.ts';
import type { Named } from '../model/record.ts';
import type { WorkloadState } from '../model/workload.ts';
import { countFigures } from './figures.ts';
import { page } from './paging.ts';
import { summary } from './services.ts';
import { nodeWarnings, type NodeFacts } from './warnings.ts';
import { stateOf } from './workloads.ts';
import type { World } from './world.ts';

const SERVICES_SHOWN = 50;
/** The regional pools of the mesh, each a /20 of its range. */
const MESH_REGIONS = ['gateway', 'us-west', 'us-east', 'eu-west', 'asia', 'molt'];

export function networkManager(world: World) {
  return {
    status: async () => {
      const health = world.health();
      const { kernel, drift, ingress, metrics, storeDriver, audit } = health;
      const conntrack = await world.conntrack();
      const figures = countFigures(world);
      const { healthy, unhealthy } = figures.endpoints;
      return {
        answer: {
          node: world.node.id,
          mode: world.mode,
          version: world.version,
          mesh: { nodeCount: 1, nodes: [{ id: world.node.id, meshIp: null, region: null }] },
          wireguard: null,
          serviceDiscovery: {
            serviceCount: figures.services,
            iptablesAvailable: kernel.inSync,
            endpoints: healthy + unhealthy,
            healthy,
            services: page(world.desired.services, { limit: SERVICES_SHOWN }).items.map((service) => {
              const { protocol: _, ...shown } = summary(world, service);
              return shown;
            }),
          },
          policies: { count: world.desired.policies.size, audit: [...world.desired.policies.values()].filter(({ mode }) => mode === 'audit').length },
          workloads: { total: world.desired.workloads.size, ...Object.fromEntries(Object.entries(figures.workloads).filter(([, count]) => count > 0)) },
          allocator: {
            stats: {
              ...figures.pools,
              workloadSubnets: { used: 1, free: subnetCount(world) - 1, quarantined: 0 },
              meshIps: Object.fromEntries(MESH_REGIONS.map((region) => [region, { used: 0, free: 4094, quarantined: 0 }])),
            },
          },
          conntrack: conntrack ?? null,
          ingress,
          kernel,
          drift,
          audit: { works: audit.works, denied: audit.denied, audited: audit.audited, ...(audit.reason === undefined ? {} : { reason: audit.reason }) },
          store: { driver: storeDriver, revision: world.desired.revision },
          metrics,
          warnings: nodeWarnings({ health, figures, conntrack, ...troubled(world) }),
        },
      };
    },
  };
}

/** Names of what does not do what it was made for. */
function troubled(world: World): Pick<NodeFacts, 'deserted' | 'failed' | 'restarting'> {
  const workloadsIn = (state: WorkloadState): string[] => nameAll([...world.desired.workloads.values()].filter((workload) => stateOf(world, workload) === state));
  const deserted = [...world.desired.services.values()].filter((service) => !world.endpointsOf(service).some(({ healthy }) => healthy));
  return { deserted: nameAll(deserted), failed: workloadsIn('failed'), restarting: workloadsIn('restarting') };
}

function nameAll(records: readonly Named[]): string[] {
  return records.map(({ namespace, name }) => `${namespace}/${name}`).toSorted();
}

/** How many /24 subnets the workload range holds. */
function subnetCount(world: World): number {
  return 2 ** Math.max(0, 24 - bounds(world.node.ranges.workload).prefix);
}
