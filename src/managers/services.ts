/** Services: their invariants and their store writes. Never programs anything. */
import type { CreateService, UpdateService } from '../../tools/service.ts';
import { ClawError } from '../errors.ts';
import { matches } from '../model/name.ts';
import { recordKey, type Named } from '../model/record.ts';
import type { Service, ServicePort } from '../model/service.ts';
import type { ServiceForm } from '../model/service-form.ts';
import { releaseAddress, takeAddress } from './allocations.ts';
import { page } from './paging.ts';
import { createRecord, deleteRecord, replaceRecord, requireRecord, requireRoom, together, type Change } from './records.ts';
import { invalid, optionsOf, parseServiceSpec, type ServiceSpec } from './service-spec.ts';
import type { World } from './world.ts';

const MISSING = { code: 'SERVICE_NOT_FOUND', listWith: 'service.list' } as const;

export function serviceManager(world: World) {
  const find = (input: Named): Service => requireRecord(world.desired.services, recordKey('services', input), MISSING);

  return {
    create: async (input: CreateService) => {
      const spec = parseServiceSpec(world, input);
      const { answer, revision } = await world.mutate(() => {
        const key = recordKey('services', input);
        const existing = world.desired.services.get(key);
        if (existing !== undefined) {
          throw new ClawError('SERVICE_EXISTS', `service ${input.namespace}/${input.name} exists already, with clusterIp ${existing.clusterIp}`, {
            path: 'name',
            hint: 'service.update changes it; service.delete removes it.',
          });
        }
        const { service, ...change } = newService(world, input, spec);
        return { ...change, answer: service };
      });
      return { answer: written(world, answer), revision };
    },

    update: async (input: UpdateService) => {
      const { answer, revision } = await world.mutate(() => {
        const service = find(input);
        const updated = changedService(service, parseServiceSpec(world, merge(service, input)));
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

/** A service that is not there yet, with the next free virtual IP, and the writes that make it. */
export function newService(world: World, { namespace, name }: Named, spec: ServiceSpec): Change & { readonly service: Service } {
  requireRoom(world.desired.services, 'services');
  const key = recordKey('services', { namespace, name });
  const taken = takeAddress(world, { kind: 'clusterIp' }, key);
  const service: Service = { v: 1, createdAt: world.now().toISOString(), namespace, name, ...spec, clusterIp: taken.ip };
  return { ...together(createRecord(world, key, service), taken), service };
}

/** The same service with other fields; its virtual IP stays. */
export function changedService({ v, createdAt, namespace, name, clusterIp }: Service, spec: ServiceSpec): Service {
  return { v, createdAt, namespace, name, ...spec, clusterIp };
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

export const DESERTED = 'it has neither a selector nor endpoints: connections are refused';

export function isDeserted({ selector, endpoints }: Pick<Service, 'selector' | 'endpoints'>): boolean {
  return selector === undefined && endpoints.length === 0;
}

/** What is allowed and may be meant, but leaves the service without an answer. */
function warnings(world: World, service: Service): string[] {
  if (isDeserted(service)) return [DESERTED];
  const names = service.ports.flatMap(({ targetPort }) => (typeof targetPort === 'string' ? [targetPort] : []));
  const { selector } = service;
  if (selector === undefined) return [];
  const selected = [...world.desired.workloads.values()].filter((workload) => workload.namespace === service.namespace && matches(selector, workload.labels));
  return names
    .filter((name) => selected.length > 0 && !selected.some((workload) => workload.ports.some((port) => port.name === name)))
    .map((name) => `none of the selected workloads has a port named ${name}`);
}

/** The old fields with the given ones in their place; a null takes an optional one away. */
function merge(service: Service, input: UpdateService): ServiceForm {
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
