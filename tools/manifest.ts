/** The commands that take and give whole manifests: Kubernetes objects, and our own where Kubernetes has no words. */
import { z } from 'zod';
import { name } from '../src/model/name.ts';
import { defineTool, enforcement, type Tool } from './define.ts';

export const applyInput = z.strictObject({
  manifest: z.string().min(1).max(4_000_000).describe('YAML or JSON, several documents: NetworkPolicy, Namespace, Service, Ingress'),
  dryRun: z.boolean().default(false).describe('Only answer what it would do'),
});
export type Apply = z.output<typeof applyInput>;

export const exportInput = z.strictObject({
  format: z.enum(['kubernetes']).default('kubernetes'),
  namespace: name.optional().describe('Only this namespace; all when left out'),
});
export type Export = z.output<typeof exportInput>;

export const manifestTools: readonly Tool[] = [
  defineTool({
    command: 'network.apply',
    title: 'Apply a manifest',
    description: 'Create or update all objects of a Kubernetes manifest, or none; each object is replaced whole.',
    toolset: 'policy',
    effect: 'replace',
    idempotent: true,
    input: applyInput,
    output: z.object({
      applied: z.array(z.object({ kind: z.string(), namespace: z.string().optional(), name: z.string(), action: z.enum(['created', 'updated', 'unchanged']) })),
      warnings: z.array(z.string()),
      ...enforcement,
    }),
    handle: (managers, input) => managers.manifests.apply(input),
  }),
  defineTool({
    command: 'network.export',
    title: 'Export as a manifest',
    description: 'Namespaces, services, ingresses and policies as YAML that network.apply takes back.',
    toolset: 'policy',
    effect: 'read',
    idempotent: true,
    input: exportInput,
    output: z.object({ manifest: z.string() }),
    documents: ['manifest'],
    handle: (managers, input) => managers.manifests.export(input),
  }),
];
