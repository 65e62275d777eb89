/** The network commands: how the node is. */
import { z } from 'zod';
import { defineTool, type Tool } from './define.ts';

const poolStats = z.object({ used: z.int(), free: z.int(), quarantined: z.int() });

export const networkTools: readonly Tool[] = [
  defineTool({
    command: 'network.status',
    title: 'Network status',
    description: 'Mode and health of this node: services, addresses left, mesh, drift and store.',
    toolset: 'network',
    inDefault: true,
    effect: 'read',
    idempotent: true,
    input: z.strictObject({}),
    output: z.object({
      node: z.string(),
      mode: z.enum(['host', 'sandbox', 'model']),
      version: z.string(),
      mesh: z.object({
        nodeCount: z.int(),
        nodes: z.array(z.object({ id: z.string(), meshIp: z.string().nullable(), region: z.string().nullable() })),
      }),
      wireguard: z.null().describe('No mesh yet'),
      serviceDiscovery: z.object({
        serviceCount: z.int(),
        iptablesAvailable: z.boolean(),
        endpoints: z.int().describe('Of all services together'),
        healthy: z.int(),
        services: z
          .array(z.object({ namespace: z.string(), name: z.string(), clusterIp: z.string(), port: z.int(), endpoints: z.int(), healthy: z.int() }))
          .describe('The first 50; service.list pages through all'),
      }),
      policies: z.object({ count: z.int(), audit: z.int().describe('Those that only tell') }),
      workloads: z.record(z.string(), z.int()).describe('How many, and how many in each state'),
      allocator: z.object({
        stats: z.object({
          clusterIps: poolStats,
          workloadIps: poolStats,
          workloadSubnets: poolStats,
          meshIps: z.record(z.string(), poolStats).describe('By region'),
        }),
      }),
      conntrack: z.object({ entries: z.int(), maximum: z.int() }).nullable().describe('Tracked connections of this node'),
      ingress: z.object({ port: z.int(), running: z.boolean(), published: z.string().optional(), reason: z.string().optional() }).describe('The HTTP proxy'),
      kernel: z
        .object({ inSync: z.boolean(), backend: z.string(), revision: z.int(), lastPassMs: z.number().optional(), reason: z.string().optional() })
        .describe('Whether it holds the newest revision of the store'),
      drift: z.object({ repairs: z.int(), lastRepairAt: z.string().optional(), last: z.string().optional() }).describe('What others changed in the kernel and we repaired'),
      audit: z
        .object({ works: z.boolean(), denied: z.int(), audited: z.int(), reason: z.string().optional() })
        .describe('Whether network.flows tells what policies deny; how many connections it has told'),
      store: z.object({ driver: z.string(), revision: z.int() }),
      metrics: z.object({ url: z.string().optional(), failure: z.string().optional() }).describe('Where Prometheus finds them'),
      warnings: z.array(z.string()).describe('What needs attention, in words; empty when all is well'),
    }),
    handle: (managers) => managers.network.status(),
  }),
];
