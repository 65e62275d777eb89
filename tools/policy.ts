/** The network policy commands: who may open connections to whom. */
import { z } from 'zod';
import { labels } from '../src/model/name.ts';
import { policyMode } from '../src/model/policy.ts';
import { egressRuleForm, ingressRuleForm, rulesForm, selectorForm } from '../src/model/policy-form.ts';
import { defineTool, enforcement, type Tool } from './define.ts';
import { named, outNamed, paged, paging } from './shared.ts';

const notYet = { dryRun: 'network.simulate answers what it would do.' };

const spec = {
  selector: selectorForm.optional().describe('Whom it isolates: labels, or {matchLabels, matchExpressions}; left out: all of the namespace'),
  ingress: rulesForm.ingress.optional().describe('What may connect to them; []: nothing; left out: not isolated'),
  egress: rulesForm.egress.optional().describe('What they may connect to: as ingress, with to').meta({ brief: true }),
  mode: policyMode.optional().describe('audit: only tell in network.flows what it would deny; default enforce'),
};

export const createPolicyInput = z.strictObject({ ...named, ...spec });
export type CreatePolicy = z.output<typeof createPolicyInput>;

export const updatePolicyInput = z.strictObject({
  ...named,
  selector: selectorForm.nullish(),
  ingress: rulesForm.ingress.meta({ brief: true }).nullish(),
  egress: rulesForm.egress.meta({ brief: true }).nullish(),
  mode: policyMode.nullish(),
});
export type UpdatePolicy = z.output<typeof updatePolicyInput>;

const written = z.object({
  ...outNamed,
  success: z.literal(true),
  selected: z.int().describe('Workloads that it selects'),
  warnings: z.array(z.string()),
  ...enforcement,
});

const shownSelector = z.union([labels, z.object({ matchLabels: labels.optional(), matchExpressions: z.array(z.unknown()).optional() })]);

export const policyTools: readonly Tool[] = [
  defineTool({
    command: 'network.policy.create',
    title: 'Create a network policy',
    description: 'Isolate the selected workloads: only what the rules list may connect to them (ingress) or be connected to (egress). Policies add up.',
    toolset: 'policy',
    inDefault: true,
    effect: 'write',
    idempotent: false,
    input: createPolicyInput,
    output: written,
    notYet,
    handle: (managers, input) => managers.policies.create(input),
  }),
  defineTool({
    command: 'network.policy.get',
    title: 'Get a network policy',
    description: 'One policy with its rules and the number of workloads that it selects.',
    toolset: 'policy',
    effect: 'read',
    idempotent: true,
    input: z.strictObject(named),
    output: z.object({
      ...outNamed,
      selector: shownSelector,
      ingress: z.array(ingressRuleForm).optional(),
      egress: z.array(egressRuleForm).optional(),
      mode: policyMode,
      origin: z.enum(['native', 'kubernetes']),
      selected: z.int(),
      createdAt: z.string(),
      ...enforcement,
    }),
    handle: (managers, input) => managers.policies.get(input),
  }),
  defineTool({
    command: 'network.policy.list',
    title: 'List network policies',
    description: 'All network policies with mode and number of rules, and whether they are enforced.',
    toolset: 'policy',
    inDefault: true,
    effect: 'read',
    idempotent: true,
    input: z.strictObject(paging),
    output: z.object({
      ...paged,
      policies: z.array(
        z.object({
          ...outNamed,
          selector: shownSelector,
          ingressRules: z.int().nullable().describe('null: ingress is not isolated'),
          egressRules: z.int().nullable(),
          mode: policyMode,
          selected: z.int(),
          createdAt: z.string(),
        }),
      ),
      enforcement: z.object({ active: z.boolean(), iptablesAvailable: z.boolean(), reason: z.string().optional() }),
    }),
    handle: (managers, input) => managers.policies.list(input),
  }),
  defineTool({
    command: 'network.policy.update',
    title: 'Update a network policy',
    description: 'Change a policy that exists: a given selector, ingress, egress or mode replaces the old one whole, null takes it away, others stay.',
    toolset: 'policy',
    effect: 'replace',
    idempotent: true,
    input: updatePolicyInput,
    output: written,
    notYet,
    handle: (managers, input) => managers.policies.update(input),
  }),
  defineTool({
    command: 'network.policy.delete',
    title: 'Delete a network policy',
    description: 'Remove a policy: what only it isolated is open again.',
    toolset: 'policy',
    inDefault: true,
    effect: 'destroy',
    idempotent: false,
    input: z.strictObject(named),
    output: z.object({ ...outNamed, deleted: z.literal(true), ...enforcement }),
    handle: (managers, input) => managers.policies.delete(input),
  }),
];
