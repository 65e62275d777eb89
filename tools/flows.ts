/** The command that tells which connections policies denied, or would have denied. */
import { z } from 'zod';
import { flow, flowVerdict } from '../src/model/flow.ts';
import { name } from '../src/model/name.ts';
import { defineTool, type Tool } from './define.ts';

export const flowsInput = z.strictObject({
  namespace: name.optional().describe('Only with an end in this namespace'),
  workload: z.string().min(1).max(130).optional().describe('Either end: name, "namespace/name" or IP'),
  verdict: flowVerdict.optional(),
  since: z.string().max(40).optional().describe('ISO 8601 time'),
  limit: z.int().min(1).max(500).default(50),
});
export type AskFlows = z.output<typeof flowsInput>;

export const flowTools: readonly Tool[] = [
  defineTool({
    command: 'network.flows',
    title: 'List denied connections',
    description: 'Connections that were tried and that policies denied (deny) or in audit mode would have denied (audit), newest first.',
    toolset: 'policy',
    effect: 'read',
    idempotent: true,
    input: flowsInput,
    output: z.object({
      flows: z.array(flow),
      count: z.int().describe('All that match, also beyond the limit'),
      auditWorks: z.boolean().describe('false: connections may be missing'),
      reason: z.string().optional().describe('Why it does not work'),
      dropped: z.int().optional().describe('Events that were lost'),
      listeningSince: z.string().optional().describe('What happened before may be missing'),
    }),
    handle: (managers, input) => managers.flows.list(input),
  }),
];
