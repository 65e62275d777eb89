/** All managers of one node, as tool handlers get them. */
import { flowManager } from './flows.ts';
import { ingressManager } from './ingresses.ts';
import { manifestManager } from './manifests.ts';
import { namespaceManager } from './namespaces.ts';
import { networkManager } from './network.ts';
import { policyManager } from './policies.ts';
import { reachManager } from './reach.ts';
import { serviceManager } from './services.ts';
import { workloadManager } from './workloads.ts';
import type { World } from './world.ts';

export function createManagers(world: World) {
  return {
    services: serviceManager(world),
    ingresses: ingressManager(world),
    workloads: workloadManager(world),
    namespaces: namespaceManager(world),
    policies: policyManager(world),
    manifests: manifestManager(world),
    reach: reachManager(world),
    flows: flowManager(world),
    network: networkManager(world),
  };
}
export type Managers = ReturnType<typeof createManagers>;
