/** Counts what this node holds, for `network.status` and for metrics. Reads only. */
import type { PoolStats } from '../ipam/pool.ts';
import type { WorkloadState } from '../model/workload.ts';
import { poolStats } from './allocations.ts';
import { stateOf } from './workloads.ts';
import type { World } from './world.ts';

export interface Figures {
  readonly services: number;
  readonly ingresses: number;
  readonly namespaces: number;
  /** Of all services together; an address behind two services counts twice. */
  readonly endpoints: { readonly healthy: number; readonly unhealthy: number };
  /** Every state, also those in which there is none. */
  readonly workloads: Readonly<Record<WorkloadState, number>>;
  readonly pools: { readonly clusterIps: PoolStats; readonly workloadIps: PoolStats };
}

export function countFigures(world: World): Figures {
  const { services, ingresses, namespaces } = world.desired;
  return {
    services: services.size,
    ingresses: ingresses.size,
    namespaces: namespaces.size,
    endpoints: countEndpoints(world),
    workloads: countWorkloads(world),
    pools: { clusterIps: poolStats(world, { kind: 'clusterIp' }), workloadIps: poolStats(world, { kind: 'workload', node: world.node.id }) },
  };
}

function countEndpoints(world: World): Figures['endpoints'] {
  const counts = { healthy: 0, unhealthy: 0 };
  for (const service of world.desired.services.values()) {
    for (const { healthy } of world.endpointsOf(service)) counts[healthy ? 'healthy' : 'unhealthy'] += 1;
  }
  return counts;
}

function countWorkloads(world: World): Figures['workloads'] {
  const counts = { starting: 0, running: 0, restarting: 0, exited: 0, failed: 0, stopping: 0 } satisfies Record<WorkloadState, number>;
  for (const workload of world.desired.workloads.values()) counts[stateOf(world, workload)] += 1;
  return counts;
}
