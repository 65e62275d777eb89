/** Who stands behind a service: its explicit endpoints, or the workloads that its selector matches. Pure. */
import { matches, type Labels } from '../model/name.ts';
import type { Port } from '../model/address.ts';
import type { Desired, Endpoint, EndpointPort, Observed } from '../model/observed.ts';
import { recordKey } from '../model/record.ts';
import type { Service, ServicePort } from '../model/service.ts';
import type { Workload } from '../model/workload.ts';

/** All endpoints of one service, in the order of their workloads' names or as given. */
export type EndpointsOf = (service: Service) => readonly Endpoint[];

/**
 * Endpoints as of this desired and observed state. Workloads are indexed by label once, so asking for each of 5,000
 * services does not try every workload. A workload is healthy while it runs, and as long as its service's health check says
 * so, if there is one; one that is being restarted is listed as unhealthy; one that has ended for good is not listed.
 */
export function endpointLookup(desired: Desired, observed: Observed): EndpointsOf {
  const index = indexWorkloads(desired.workloads.values());
  const found = (service: Service): readonly Endpoint[] => {
    const { selector } = service;
    if (selector === undefined) return explicitEndpoints(service);
    return candidates(index, service.namespace, selector)
      .filter((workload) => matches(selector, workload.labels))
      .flatMap((workload) => workloadEndpoint(service, workload, observed.workloads.get(workload.id)?.state) ?? []);
  };
  return (service) => {
    if (service.healthCheck === undefined) return found(service);
    const health = observed.health.get(recordKey('services', service));
    return found(service).map((endpoint) => {
      const address = probedAddress(endpoint);
      return address === undefined || health?.get(address) === true ? endpoint : { ...endpoint, healthy: false };
    });
  };
}

/** What a health check speaks to, as `ip:port`: the endpoint's first TCP port. */
export function probedAddress(endpoint: Pick<Endpoint, 'ip' | 'ports'>): string | undefined {
  const port = probedPort(endpoint);
  return port === undefined ? undefined : `${endpoint.ip}:${port}`;
}

export function probedPort({ ports }: Pick<Endpoint, 'ports'>): Port | undefined {
  return ports.find(({ protocol }) => protocol === 'tcp')?.port;
}

const indexKey = (namespace: string, key: string, value: string): string => `${namespace}\0${key}\0${value}`;

function indexWorkloads(workloads: Iterable<Workload>): ReadonlyMap<string, readonly Workload[]> {
  const index = new Map<string, Workload[]>();
  for (const workload of [...workloads].toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    for (const [key, value] of Object.entries(workload.labels)) {
      const entry = indexKey(workload.namespace, key, value);
      const listed = index.get(entry);
      if (listed === undefined) index.set(entry, [workload]);
      else listed.push(workload);
    }
  }
  return index;
}

/** The shortest list of workloads that carry one of the selector's labels; none for a selector without labels. */
function candidates(index: ReadonlyMap<string, readonly Workload[]>, namespace: string, selector: Labels): readonly Workload[] {
  const lists = Object.entries(selector).map(([key, value]) => index.get(indexKey(namespace, key, value)) ?? []);
  return lists.toSorted((a, b) => a.length - b.length)[0] ?? [];
}

function workloadEndpoint(service: Service, workload: Workload, state: string | undefined): Endpoint | undefined {
  if (workload.stopping) return undefined;
  if (state !== 'running' && state !== 'restarting' && state !== 'starting') return undefined;
  const ports = service.ports.flatMap((port) => endpointPort(port, numberOf(port, workload)) ?? []);
  if (ports.length === 0) return undefined;
  return { ip: workload.ip, containerId: workload.id, healthy: state === 'running', node: workload.node, ports };
}

function explicitEndpoints(service: Service): readonly Endpoint[] {
  return service.endpoints.flatMap((endpoint) => {
    const ports = service.ports.flatMap((port) => {
      const target = port.targetPort ?? port.port;
      return endpointPort(port, endpoint.port ?? (typeof target === 'number' ? target : undefined)) ?? [];
    });
    return ports.length === 0 ? [] : [{ ip: endpoint.ip, containerId: null, healthy: true, node: null, ports }];
  });
}

function numberOf(port: ServicePort, workload: Workload): Port | undefined {
  const target = port.targetPort ?? port.port;
  if (typeof target === 'number') return target;
  return workload.ports.find((candidate) => candidate.name === target && candidate.protocol === port.protocol)?.port;
}

function endpointPort(port: ServicePort, number: Port | undefined): EndpointPort | undefined {
  if (number === undefined) return undefined;
  return { ...(port.name === undefined ? {} : { name: port.name }), servicePort: port.port, protocol: port.protocol, port: number };
}
