/** The service commands: a stable virtual IP in front of workloads or given addresses. */
import { z } from 'zod';
import { port, protocol } from '../src/model/address.ts';
import { name } from '../src/model/name.ts';
import { serviceFields, serviceForm } from '../src/model/service-form.ts';
import { defineTool, enforcement, type Tool } from './define.ts';
import { liveEndpoint, named, outNamed, paged, paging, servicePortAnswer } from './shared.ts';

const notYet = { dryRun: 'Leave it out.' };

export const createServiceInput = z.strictObject({ ...named, ...serviceForm });
export type CreateService = z.output<typeof createServiceInput>;

export const updateServiceInput = z.strictObject({
  ...named,
  selector: serviceFields.selector.nullish(),
  port: port.optional(),
  protocol: protocol.nullish(),
  targetPort: serviceFields.targetPort.nullish(),
  ports: serviceFields.ports.nullish(),
  endpoints: serviceFields.endpoints.nullish(),
  sessionAffinity: serviceFields.sessionAffinity.nullish(),
  healthCheck: serviceFields.healthCheck.nullish(),
  drainSeconds: serviceFields.drainSeconds.nullish(),
});
export type UpdateService = z.output<typeof updateServiceInput>;

const written = z.object({
  ...outNamed,
  port: z.int().describe('The first port'),
  protocol: z.string(),
  clusterIp: z.string().describe('The virtual IP; it stays until the service is deleted'),
  success: z.literal(true),
  warnings: z.array(z.string()),
  ...enforcement,
});

const checkAnswer = z.object({
  type: z.string(),
  path: z.string().optional(),
  intervalMs: z.int(),
  timeoutMs: z.int(),
  failures: z.int(),
  successes: z.int(),
});

export const serviceTools: readonly Tool[] = [
  defineTool({
    command: 'service.create',
    title: 'Create a service',
    description: 'Give workloads with the selected labels (or fixed endpoints) one stable virtual IP, balanced over all of them.',
    toolset: 'services',
    inDefault: true,
    effect: 'write',
    idempotent: false,
    input: createServiceInput,
    output: written,
    notYet,
    handle: (managers, input) => managers.services.create(input),
  }),
  defineTool({
    command: 'service.get',
    title: 'Get a service',
    description: 'How one service is set up: virtual IP, selector, ports, health check; and its endpoints.',
    toolset: 'services',
    inDefault: true,
    effect: 'read',
    idempotent: true,
    input: z.strictObject(named),
    output: z.object({
      ...outNamed,
      selector: z.record(z.string(), z.string()),
      port: z.int(),
      protocol: z.string(),
      targetPort: z.union([z.int(), z.string()]),
      ports: z.array(servicePortAnswer).describe('All ports; port, protocol and targetPort above are those of the first'),
      endpoints: z.array(z.object({ ip: z.string(), port: z.int().optional() })).describe('Explicit endpoints as given'),
      clusterIp: z.string(),
      sessionAffinity: z.object({ type: z.string(), timeoutSeconds: z.int() }).optional(),
      healthCheck: checkAnswer.optional(),
      drainSeconds: z.int().optional(),
      liveEndpoints: z.array(liveEndpoint).describe('What is behind it now'),
      createdAt: z.string(),
      ...enforcement,
    }),
    handle: (managers, input) => managers.services.get(input),
  }),
  defineTool({
    command: 'service.list',
    title: 'List services',
    description: 'All services with their virtual IPs, ports and number of endpoints.',
    toolset: 'services',
    inDefault: true,
    effect: 'read',
    idempotent: true,
    input: z.strictObject(paging),
    output: z.object({
      ...paged,
      services: z.array(
        z.object({
          ...outNamed,
          port: z.int(),
          protocol: z.string(),
          clusterIp: z.string(),
          endpoints: z.int().describe('Number of endpoints'),
          healthy: z.int().describe('How many of them get traffic'),
          createdAt: z.string(),
        }),
      ),
    }),
    handle: (managers, input) => managers.services.list(input),
  }),
  defineTool({
    command: 'service.update',
    title: 'Update a service',
    description: 'Change a service and keep its virtual IP: a given field replaces the old one whole, null removes it, others stay.',
    toolset: 'services',
    effect: 'replace',
    idempotent: true,
    input: updateServiceInput,
    output: written,
    notYet,
    handle: (managers, input) => managers.services.update(input),
  }),
  defineTool({
    command: 'service.delete',
    title: 'Delete a service',
    description: 'Remove a service; its virtual IP refuses connections at once.',
    toolset: 'services',
    inDefault: true,
    effect: 'destroy',
    idempotent: false,
    input: z.strictObject(named),
    output: z.object({ ...outNamed, deleted: z.literal(true), clusterIp: z.string(), ...enforcement }),
    handle: (managers, input) => managers.services.delete(input),
  }),
  defineTool({
    command: 'service.endpoints',
    title: 'Endpoints of a service',
    description: 'What is behind a service now: each address, whether it is healthy, and why not. Look here first when it does not answer.',
    toolset: 'services',
    inDefault: true,
    effect: 'read',
    idempotent: true,
    input: z.strictObject({ namespace: named.namespace, name: name.describe('Service') }),
    output: z.object({
      ...outNamed,
      clusterIp: z.string(),
      total: z.int().describe('Number of endpoints'),
      healthy: z.int().describe('How many of them get traffic'),
      endpoints: z.array(liveEndpoint),
    }),
    handle: (managers, input) => managers.services.endpoints(input),
  }),
];
