/** Endpoints by service, worked out again only when a workload or its state changed; it decides nothing itself. */
import { isDeepStrictEqual } from 'node:util';
import { endpointLookup, type EndpointsOf } from '../compile/endpoints.ts';
import type { Desired, Endpoint, EndpointHealth, Observed } from '../model/observed.ts';
import { recordKey } from '../model/record.ts';
import type { Service } from '../model/service.ts';

export interface EndpointCache {
  /** The same service gives the same array as long as its endpoints are the same, so that what is compiled from it can be kept. */
  readonly endpointsOf: EndpointsOf;
  /** While it stays the same, no service that did not change itself, or in its health, has other endpoints. */
  generation(): string;
}

interface Known {
  readonly generation: string;
  readonly health: EndpointHealth | undefined;
  readonly endpoints: readonly Endpoint[];
}

export function createEndpointCache(desired: Desired, observed: Observed): EndpointCache {
  let lookup: { readonly generation: string; readonly of: EndpointsOf } | undefined;
  const cache = new WeakMap<Service, Known>();
  const generation = (): string => `${desired.workloadGeneration}/${observed.generation}`;
  return {
    generation,
    endpointsOf: (service) => {
      const now = generation();
      const known = cache.get(service);
      const health = service.healthCheck === undefined ? undefined : observed.health.get(recordKey('services', service));
      if (known?.generation === now && known.health === health) return known.endpoints;
      if (lookup?.generation !== now) lookup = { generation: now, of: endpointLookup(desired, observed) };
      const found = lookup.of(service);
      const endpoints = known !== undefined && isDeepStrictEqual(known.endpoints, found) ? known.endpoints : found;
      cache.set(service, { generation: now, health, endpoints });
      return endpoints;
    },
  };
}
