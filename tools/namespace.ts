/** The namespace commands: groups of names with labels. */
import { z } from 'zod';
import { labels, name } from '../src/model/name.ts';
import { defineTool, enforcement, type Tool } from './define.ts';
import { paged, paging } from './shared.ts';

const named = { name: name.describe('Name') };
const shown = { name: z.string(), labels: z.record(z.string(), z.string()) };
const written = z.object({ ...shown, success: z.literal(true), ...enforcement });

export const createNamespaceInput = z.strictObject({ ...named, labels: labels.default({}) });
export type CreateNamespace = z.output<typeof createNamespaceInput>;

export const updateNamespaceInput = z.strictObject({ ...named, labels: labels.nullish() });
export type UpdateNamespace = z.output<typeof updateNamespaceInput>;

const { namespace: _, ...namespacePaging } = paging;

export const namespaceTools: readonly Tool[] = [
  defineTool({
    command: 'namespace.create',
    title: 'Create a namespace',
    description: 'Make a namespace with labels; it also comes into being when first named.',
    toolset: 'namespaces',
    effect: 'write',
    idempotent: false,
    input: createNamespaceInput,
    output: written,
    handle: (managers, input) => managers.namespaces.create(input),
  }),
  defineTool({
    command: 'namespace.list',
    title: 'List namespaces',
    description: 'All namespaces with their labels.',
    toolset: 'namespaces',
    effect: 'read',
    idempotent: true,
    input: z.strictObject(namespacePaging),
    output: z.object({ ...paged, namespaces: z.array(z.object({ ...shown, createdAt: z.string() })) }),
    handle: (managers, input) => managers.namespaces.list(input),
  }),
  defineTool({
    command: 'namespace.update',
    title: 'Update a namespace',
    description: "Replace a namespace's labels.",
    toolset: 'namespaces',
    effect: 'replace',
    idempotent: true,
    input: updateNamespaceInput,
    output: written,
    handle: (managers, input) => managers.namespaces.update(input),
  }),
  defineTool({
    command: 'namespace.delete',
    title: 'Delete a namespace',
    description: 'Remove a namespace that holds nothing any more.',
    toolset: 'namespaces',
    effect: 'destroy',
    idempotent: false,
    input: z.strictObject(named),
    output: z.object({ name: z.string(), deleted: z.literal(true), ...enforcement }),
    handle: (managers, input) => managers.namespaces.delete(input),
  }),
];
