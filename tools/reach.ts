/** The commands that answer who may reach whom, and why. */
import { z } from 'zod';
import { ipv4, port } from '../src/model/address.ts';
import { labels, name, namespaceName, portName } from '../src/model/name.ts';
import { policyProtocol } from '../src/model/policy.ts';
import { defineTool, type Tool } from './define.ts';

const end = z.string().min(1).max(130).describe('Workload, as "name" or "namespace/name"; IP; entity:host (the node) or entity:ingress (the proxy)');

const verdict = z.enum(['allow', 'deny']);

export const simulateInput = z.strictObject({
  namespaces: z.array(z.strictObject({ name, labels: labels.default({}) })).max(10_000).default([]),
  workloads: z
    .array(
      z.strictObject({
        namespace: namespaceName,
        name,
        labels: labels.default({}),
        ip: ipv4.optional(),
        ports: z.array(z.strictObject({ name: portName.optional(), port, protocol: policyProtocol.default('tcp') })).max(64).default([]),
      }),
    )
    .max(10_000)
    .default([]),
  policies: z.array(z.record(z.string(), z.unknown())).max(10_000).default([]).describe('As for network.policy.create, or Kubernetes NetworkPolicy objects'),
  manifest: z.string().max(4_000_000).optional().describe('YAML with more policies and namespaces'),
  probes: z
    .array(z.strictObject({ from: end, to: end, port: z.union([port, portName]).describe('Number, or name on the destination'), protocol: policyProtocol.default('tcp') }))
    .max(250_000)
    .optional()
    .describe('Left out: every workload to every declared port'),
});
export type Simulate = z.output<typeof simulateInput>;

const reachInput = {
  from: end,
  to: end.describe('The same, or a service by name'),
  port: z.union([port, portName]).describe('Number, or name on the destination'),
  protocol: policyProtocol.default('tcp'),
};

export const explainInput = z.strictObject(reachInput);
export type Explain = z.output<typeof explainInput>;

export const reachTools: readonly Tool[] = [
  defineTool({
    command: 'network.explain',
    title: 'Explain reachability',
    description: 'Whether one workload or address may reach another, and why or why not: policies and rules on the way, and calls that would change it. Opens no connection.',
    toolset: 'policy',
    inDefault: true,
    effect: 'read',
    idempotent: true,
    input: explainInput,
    output: z.object({
      from: z.string(),
      to: z.string(),
      port: z.union([z.int(), z.string()]),
      protocol: z.string(),
      verdict,
      reason: z.string(),
      path: z.array(z.object({ step: z.string(), text: z.string(), verdict: verdict.optional(), policy: z.string().optional(), rule: z.int().optional() })),
      remedy: z
        .object({ text: z.string(), calls: z.array(z.object({ command: z.string(), params: z.record(z.string(), z.unknown()) })) })
        .optional()
        .describe('The smallest change that would flip the verdict; not carried out'),
      enforced: z.boolean().describe('Whether the kernel holds the policies of now'),
    }),
    handle: (managers, input) => managers.reach.explain(input),
  }),
  defineTool({
    command: 'network.probe',
    title: 'Probe reachability',
    description: 'Really open a connection from inside a workload, and compare the outcome with the policies.',
    toolset: 'policy',
    effect: 'read',
    idempotent: true,
    input: explainInput,
    output: z.object({
      from: z.string(),
      to: z.string(),
      port: z.union([z.int(), z.string()]),
      protocol: z.string(),
      reachable: z.boolean(),
      latencyMs: z.number(),
      error: z.string().optional(),
      expected: verdict.describe('What the policies say'),
      agreesWithModel: z.boolean().nullable().describe('false is an alarm; null: the attempt tells nothing of policies'),
      reason: z.string().describe('Why the policies say so'),
    }),
    handle: (managers, input, signal) => managers.reach.probe(input, signal),
  }),
  defineTool({
    command: 'network.simulate',
    title: 'Simulate network policies',
    description: 'Who could reach whom among workloads and under policies that are all given in the call: a rehearsal that looks at nothing that runs.',
    toolset: 'policy',
    effect: 'read',
    idempotent: true,
    input: simulateInput,
    output: z.object({
      results: z.array(
        z.object({ from: z.string(), to: z.string(), port: z.union([z.int(), z.string()]), protocol: z.string(), ingress: verdict, egress: verdict, verdict, reason: z.string() }),
      ),
    }),
    handle: (managers, input) => managers.reach.simulate(input),
  }),
];
