/** Endpoints by service, worked out again only when a workload or its state changed; it decides nothing itself. */
import { endpointLookup, type EndpointsOf } from '../compile/endpoints.ts';
import type { Desired, Endpoint, Observed } from '../model/observed.ts';
import type { Service } from '../model/service.ts';

/** The same service gives the same array as long as nothing changed, so that what is compiled from it can be kept. */
export function createEndpointCache(desired: Desired, observed: Observed): EndpointsOf {
  let seen = '';
  let lookup: EndpointsOf | undefined;
  let cache = new WeakMap<Service, readonly Endpoint[]>();
  return (service) => {
    const now = `${desired.workloadGeneration}/${observed.generation}`;
    if (lookup === undefined || now !== seen) {
      seen = now;
      lookup = endpointLookup(desired, observed);
      cache = new WeakMap();
    }
    const known = cache.get(service);
    if (known !== undefined) return known;
    const endpoints = lookup(service);
    cache.set(service, endpoints);
    return endpoints;
  };
}
