/** Services: their invariants and their store writes. Never programs anything. */
import type { CreateService, UpdateService } from '../../tools/service.ts';
import { ClawError } from '../errors.ts';
import { contains } from '../model/address.ts';
import { FORBIDDEN_ENDPOINTS } from '../model/endpoint-ranges.ts';
import { matches } from '../model/name.ts';
import { recordKey, type Named } from '../model/record.ts';
import type { ExplicitEndpoint, Service, ServicePort } from '../model/service.ts';
import { releaseAddress, takeAddress } from './allocations.ts';
import { page } from './paging.ts';
import { createRecord, deleteRecord, replaceRecord, requireRecord, requireRoom, together } from './records.ts';
import type { World } from './world.ts';

const MISSING = { code: 'SERVICE_NOT_FOUND', listWith: 'service.list' } as const;

export function serviceManager(world: World) {
  const find = (input: Named): Service => requireRecord(world.desired.services, recordKey('services', input), MISSING);

  return {
    create: async (input: CreateService) => {
      const spec = parseSpec(world, input);
      const { answer, revision } = await world.mutate(() => {
        const key = recordKey('services', input);
        const existing = world.desired.services.get(key);
        if (existing !== undefined) {
          throw new ClawError('SERVICE_EXISTS', `service ${input.namespace}/${input.name} exists already, with clusterIp ${existing.clusterIp}`, {
            path: 'name',
            hint: 'service.update changes it; service.delete removes it.',
          });
        }
        requireRoom(world.desired.services, 'services');
        const taken = takeAddress(world, { kind: 'clusterIp' }, key);
        const service: Service = {
          v: 1,
          createdAt: world.now().toISOString(),
          namespace: input.namespace,
          name: input.name,
          ...spec,
          clusterIp: taken.ip,
        };
        return { ...together(createRecord(world, key, service), taken), answer: service };
      });
      return { answer: written(world, answer), revision };
    },

    update: async (input: UpdateService) => {
      const { answer, revision } = await world.mutate(() => {
        const service = find(input);
        const { selector: _selector, healthCheck: _check, sessionAffinity: _affinity, drainSeconds: _drain, ...rest } = service;
        const updated: Service = { ...rest, ...parseSpec(world, merge(service, input)) };
        return { ...replaceRecord(world, recordKey('services', input), updated), answer: updated };
      });
      return { answer: written(world, answer), revision };
    },

    delete: async (input: Named) => {
      const { answer, revision } = await world.mutate(() => {
        const service = find(input);
        const gone = together(deleteRecord(world, recordKey('services', input)), releaseAddress(world, { kind: 'clusterIp' }, service.clusterIp));
        return { ...gone, answer: service };
      });
      return { answer: { namespace: answer.namespace, name: answer.name, deleted: true as const, clusterIp: answer.clusterIp }, revision };
    },

    get: async (input: Named) => {
      const service = find(input);
      const first = firstPort(service);
      return {
        answer: {
          namespace: service.namespace,
          name: service.name,
          selector: service.selector ?? {},
          port: first.port,
          protocol: first.protocol,
          targetPort: first.targetPort ?? first.port,
          ports: service.ports.map((port) => ({ ...port, targetPort: port.targetPort ?? port.port })),
          endpoints: service.endpoints,
          clusterIp: service.clusterIp,
          ...optionsOf(service),
          liveEndpoints: liveEndpoints(world, service),
          createdAt: service.createdAt,
        },
        revision: world.desired.revision,
      };
    },

    list: async (input: { limit: number; cursor?: string | undefined; namespace?: string | undefined }) => {
      const { items, ...paging } = page(world.desired.services, input);
      return { answer: { ...paging, services: items.map((service) => ({ ...summary(world, service), createdAt: service.createdAt })) } };
    },

    endpoints: async (input: Named) => {
      const service = find(input);
      const { namespace, name, clusterIp, endpoints: total, healthy } = summary(world, service);
      return { answer: { namespace, name, clusterIp, total, healthy, endpoints: liveEndpoints(world, service) } };
    },
  };
}

/** A service as lists show it. */
export function summary(world: World, service: Service) {
  const endpoints = world.endpointsOf(service);
  const { port, protocol } = firstPort(service);
  return {
    namespace: service.namespace,
    name: service.name,
    port,
    protocol,
    clusterIp: service.clusterIp,
    endpoints: endpoints.length,
    healthy: endpoints.filter((endpoint) => endpoint.healthy).length,
  };
}

function written(world: World, service: Service) {
  const { port, protocol } = firstPort(service);
  return {
    namespace: service.namespace,
    name: service.name,
    port,
    protocol,
    clusterIp: service.clusterIp,
    success: true as const,
    warnings: warnings(world, service),
  };
}

/** What is allowed and may be meant, but leaves the service without an answer. */
function warnings(world: World, service: Service): string[] {
  if (service.selector === undefined && service.endpoints.length === 0) return ['it has neither a selector nor endpoints: connections are refused'];
  const names = service.ports.flatMap(({ targetPort }) => (typeof targetPort === 'string' ? [targetPort] : []));
  const { selector } = service;
  if (selector === undefined) return [];
  const selected = [...world.desired.workloads.values()].filter((workload) => workload.namespace === service.namespace && matches(selector, workload.labels));
  return names
    .filter((name) => selected.length > 0 && !selected.some((workload) => workload.ports.some((port) => port.name === name)))
    .map((name) => `none of the selected workloads has a port named ${name}`);
}

/** What is absent when it is not set. */
type Options = Partial<Pick<Service, 'healthCheck' | 'sessionAffinity' | 'drainSeconds'>>;
type Spec = Pick<Service, 'ports' | 'manyPorts' | 'endpoints' | 'selector'> & Options;
type SpecInput = Omit<CreateService, 'namespace' | 'name'>;

/** The service's own fields, checked against each other. Throws INVALID_ARGUMENT with the path of the culprit. */
function parseSpec(world: World, input: SpecInput): Spec {
  const selected = input.selector !== undefined && Object.keys(input.selector).length > 0;
  const endpoints = input.endpoints ?? [];
  if (selected && endpoints.length > 0) {
    throw invalid('endpoints', 'a service has either a selector or endpoints, not both', 'Leave one of them out; in an update take the old one away with null.');
  }
  const { ports, manyPorts } = parsePorts(input);
  if (input.healthCheck !== undefined && !ports.some(({ protocol }) => protocol === 'tcp')) {
    throw invalid('healthCheck', 'a health check connects by TCP, and this service has only UDP ports', 'Leave it out, or add a TCP port; in an update take it away with null.');
  }
  for (const [index, endpoint] of endpoints.entries()) checkEndpoint(world, { endpoint, ports, path: `endpoints[${index}]` });
  return { ...(selected && input.selector !== undefined ? { selector: input.selector } : {}), ports, manyPorts, endpoints, ...optionsOf(input) };
}

function optionsOf({ healthCheck, sessionAffinity, drainSeconds }: Options | SpecInput): Options {
  return {
    ...(healthCheck === undefined ? {} : { healthCheck }),
    ...(sessionAffinity === undefined ? {} : { sessionAffinity }),
    ...(drainSeconds === undefined ? {} : { drainSeconds }),
  };
}

function parsePorts(input: SpecInput): Pick<Service, 'ports' | 'manyPorts'> {
  if (input.ports === undefined) {
    if (input.port === undefined) throw invalid('port', 'a service needs a port', 'Give port, or ports for several.');
    const single = { port: input.port, protocol: input.protocol ?? ('tcp' as const), ...(input.targetPort === undefined ? {} : { targetPort: input.targetPort }) };
    return { ports: [single], manyPorts: false };
  }
  if (input.port !== undefined) throw invalid('ports', 'port and ports exclude each other', 'Leave one of them out.');
  if (input.protocol !== undefined) throw invalid('protocol', 'protocol goes with port', 'Give each entry of ports its own protocol.');
  if (input.targetPort !== undefined) throw invalid('targetPort', 'targetPort goes with port', 'Give each entry of ports its own targetPort.');
  const names = new Set<string>();
  const numbers = new Set<string>();
  for (const [index, port] of input.ports.entries()) {
    const number = `${port.port}/${port.protocol}`;
    if (numbers.has(number)) throw invalid(`ports[${index}].port`, `port ${number} stands there twice`, 'Give each port once.');
    numbers.add(number);
    if (input.ports.length > 1 && port.name === undefined) throw invalid(`ports[${index}].name`, 'each of several ports needs a name', 'Name it, e.g. "http".');
    if (port.name !== undefined && names.has(port.name)) throw invalid(`ports[${index}].name`, `the name ${port.name} stands there twice`, 'Give each port a name of its own.');
    if (port.name !== undefined) names.add(port.name);
  }
  return { ports: input.ports, manyPorts: true };
}

interface EndpointCheck {
  readonly endpoint: ExplicitEndpoint;
  readonly ports: readonly ServicePort[];
  readonly path: string;
}

function checkEndpoint(world: World, { endpoint, ports, path }: EndpointCheck): void {
  const ranges = [...FORBIDDEN_ENDPOINTS, { range: world.node.ranges.clusterIp, what: 'the range of virtual IPs' }];
  const forbidden = ranges.find(({ range }) => contains(range, endpoint.ip));
  if (forbidden !== undefined) {
    throw invalid(`${path}.ip`, `${endpoint.ip} can be no endpoint: ${forbidden.range} is ${forbidden.what}`, "Give the address of a host's network interface.");
  }
  if (endpoint.port !== undefined && ports.length > 1) {
    throw invalid(`${path}.port`, 'with several ports an endpoint has no port of its own', "Leave it out: each port's targetPort is used.");
  }
  const named = ports.find((port) => typeof port.targetPort === 'string');
  if (endpoint.port === undefined && named !== undefined) {
    throw invalid(`${path}.port`, `${endpoint.ip} has no port named ${named.targetPort ?? ''}`, 'Give a numeric targetPort, or the endpoint a port.');
  }
}

/** The old fields with the given ones in their place; a null takes an optional one away. */
function merge(service: Service, input: UpdateService): SpecInput {
  const selector = kept(service.selector, input.selector);
  const endpoints = kept(service.endpoints, input.endpoints) ?? [];
  const base = {
    selector,
    endpoints,
    healthCheck: kept(service.healthCheck, input.healthCheck),
    sessionAffinity: kept(service.sessionAffinity, input.sessionAffinity),
    drainSeconds: kept(service.drainSeconds, input.drainSeconds),
  };
  const { port, protocol, targetPort } = input;
  if (input.ports !== undefined && input.ports !== null) {
    return { ...base, ports: input.ports, port, protocol: protocol ?? undefined, targetPort: targetPort ?? undefined };
  }
  if (service.manyPorts && input.ports === undefined) {
    const [given] = Object.entries({ port, protocol, targetPort }).find(([, value]) => value !== undefined) ?? [];
    if (given === undefined) return { ...base, ports: service.ports };
    throw invalid(given, 'this service has several ports', 'Give ports in full, or ports: null together with port to have a single one.');
  }
  const first = firstPort(service);
  const old = service.manyPorts ? undefined : first;
  return {
    ...base,
    port: port ?? old?.port,
    protocol: protocol === undefined ? old?.protocol : (protocol ?? undefined),
    targetPort: targetPort === undefined ? old?.targetPort : (targetPort ?? undefined),
  };
}

function liveEndpoints(world: World, service: Service) {
  return world.endpointsOf(service).map((endpoint) => {
    const { ip, containerId, healthy, node, ports } = endpoint;
    const reason = world.whyUnhealthy(service, endpoint);
    const why = reason === undefined ? {} : { reason };
    return { ip, port: ports[0]?.port ?? 0, containerId, healthy, ...why, node, ...(ports.length > 1 ? { ports: [...ports] } : {}) };
  });
}

function kept<Value>(old: Value | undefined, given: Value | null | undefined): Value | undefined {
  return given === undefined ? old : (given ?? undefined);
}

function firstPort(service: Service): ServicePort {
  const [first] = service.ports;
  if (first === undefined) throw new ClawError('INTERNAL', `service ${service.namespace}/${service.name} has no port`);
  return first;
}

function invalid(path: string, message: string, hint: string): ClawError {
  return new ClawError('INVALID_ARGUMENT', message, { path, hint });
}
