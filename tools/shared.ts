/** Schema pieces that several commands share: namespace, paging, endpoints. */
import { z } from 'zod';
import { name, namespaceName } from '../src/model/name.ts';

export const named = { namespace: namespaceName, name: name.describe('Name') };

export const paging = {
  namespace: name.optional().describe('All when left out'),
  limit: z.int().min(1).max(500).default(50),
  cursor: z.string().max(200).optional().describe('nextCursor of the page before'),
};

export const paged = {
  count: z.int().describe('Total, over all pages'),
  nextCursor: z.string().optional().describe('Give it as cursor for the next page'),
};

export const outNamed = { namespace: z.string(), name: z.string() };

export const liveEndpoint = z.object({
  ip: z.string(),
  port: z.int(),
  containerId: z.string().nullable().describe('Workload id; null for an explicit endpoint'),
  healthy: z.boolean(),
  reason: z.string().optional().describe('Why it is not healthy'),
  node: z.string().nullable(),
  ports: z
    .array(z.object({ name: z.string().optional(), servicePort: z.int(), protocol: z.string(), port: z.int() }))
    .optional()
    .describe('Every port, when the service has several'),
});

export const servicePortAnswer = z.object({
  name: z.string().optional(),
  port: z.int(),
  protocol: z.string(),
  targetPort: z.union([z.int(), z.string()]),
});
