/** A service's own fields, checked against each other and turned from the form in which they were written into the stored one. Writes nothing. */
import { ClawError } from '../errors.ts';
import { contains } from '../model/address.ts';
import { FORBIDDEN_ENDPOINTS } from '../model/endpoint-ranges.ts';
import type { ExplicitEndpoint, Service, ServicePort } from '../model/service.ts';
import type { ServiceForm } from '../model/service-form.ts';
import type { World } from './world.ts';

/** What is absent when it is not set. */
export type ServiceOptions = Partial<Pick<Service, 'healthCheck' | 'sessionAffinity' | 'drainSeconds'>>;
export type ServiceSpec = Pick<Service, 'ports' | 'manyPorts' | 'endpoints' | 'selector'> & ServiceOptions;

/** The service's own fields, checked against each other. Throws INVALID_ARGUMENT with the path of the culprit. */
export function parseServiceSpec(world: Pick<World, 'node'>, input: ServiceForm): ServiceSpec {
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

/** What of it is set. */
export function optionsOf({ healthCheck, sessionAffinity, drainSeconds }: ServiceOptions | ServiceForm): ServiceOptions {
  return {
    ...(healthCheck === undefined ? {} : { healthCheck }),
    ...(sessionAffinity === undefined ? {} : { sessionAffinity }),
    ...(drainSeconds === undefined ? {} : { drainSeconds }),
  };
}

function parsePorts(input: ServiceForm): Pick<Service, 'ports' | 'manyPorts'> {
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

function checkEndpoint(world: Pick<World, 'node'>, { endpoint, ports, path }: EndpointCheck): void {
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

export function invalid(path: string, message: string, hint: string): ClawError {
  return new ClawError('INVALID_ARGUMENT', message, { path, hint });
}
