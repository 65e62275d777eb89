/** The ingress commands: HTTP from outside to services, by host and path. */
import { z } from 'zod';
import { ingressForm } from '../src/model/ingress.ts';
import { defineTool, enforcement, type Tool } from './define.ts';
import { named, outNamed, paged, paging } from './shared.ts';

const notYet = { dryRun: 'Leave it out.' };

export const createIngressInput = z.strictObject({ ...named, ...ingressForm });
export type CreateIngress = z.output<typeof createIngressInput>;

export const updateIngressInput = z.strictObject({ ...named, rules: ingressForm.rules.optional(), tls: z.boolean().nullish() });
export type UpdateIngress = z.output<typeof updateIngressInput>;

const written = z.object({
  ...outNamed,
  tls: z.boolean(),
  success: z.literal(true),
  urls: z.array(z.string()).describe('Where it is served, one per rule'),
  warnings: z.array(z.string()).describe('What may not be meant, e.g. a service that does not exist yet'),
  ...enforcement,
});

const shown = {
  ...outNamed,
  rules: z.array(
    z.object({ host: z.string(), path: z.string(), service: z.string(), ready: z.boolean().describe('A healthy endpoint answers') }),
  ),
  tls: z.boolean(),
  urls: z.array(z.string()).describe('Where it is served, one per rule'),
  createdAt: z.string(),
};

export const ingressTools: readonly Tool[] = [
  defineTool({
    command: 'ingress.create',
    title: 'Create an ingress',
    description: 'Serve services to the outside over HTTP on port 8443, chosen by host and path prefix.',
    toolset: 'ingress',
    inDefault: true,
    effect: 'write',
    idempotent: false,
    input: createIngressInput,
    output: written,
    notYet,
    handle: (managers, input) => managers.ingresses.create(input),
  }),
  defineTool({
    command: 'ingress.get',
    title: 'Get an ingress',
    description: 'One ingress with its rules, whether each is ready, and whether it is served.',
    toolset: 'ingress',
    effect: 'read',
    idempotent: true,
    input: z.strictObject(named),
    output: z.object({ ...shown, ...enforcement }),
    handle: (managers, input) => managers.ingresses.get(input),
  }),
  defineTool({
    command: 'ingress.list',
    title: 'List ingresses',
    description: 'All ingresses: hosts, paths, services, and whether each rule is ready.',
    toolset: 'ingress',
    inDefault: true,
    effect: 'read',
    idempotent: true,
    input: z.strictObject(paging),
    output: z.object({ ...paged, ingresses: z.array(z.object(shown)) }),
    handle: (managers, input) => managers.ingresses.list(input),
  }),
  defineTool({
    command: 'ingress.update',
    title: 'Update an ingress',
    description: 'Replace all rules or the tls setting of an ingress; running requests are not broken.',
    toolset: 'ingress',
    effect: 'replace',
    idempotent: true,
    input: updateIngressInput,
    output: written,
    notYet,
    handle: (managers, input) => managers.ingresses.update(input),
  }),
  defineTool({
    command: 'ingress.delete',
    title: 'Delete an ingress',
    description: 'Stop serving the hosts and paths of an ingress.',
    toolset: 'ingress',
    inDefault: true,
    effect: 'destroy',
    idempotent: false,
    input: z.strictObject(named),
    output: z.object({ ...outNamed, deleted: z.literal(true), ...enforcement }),
    handle: (managers, input) => managers.ingresses.delete(input),
  }),
];
