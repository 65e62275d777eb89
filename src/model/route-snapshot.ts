/** What the ingress proxy is fed: one complete, versioned routing table; imports nothing local but its parts. */
import { z } from 'zod';
import { ipv4, port } from './address.ts';

export const routeTarget = z.strictObject({ ip: ipv4, port });
export type RouteTarget = z.infer<typeof routeTarget>;

export const route = z.strictObject({
  /** Lower case, no port, no trailing dot; `*.example.com` covers one label. */
  host: z.string(),
  /** Whole segments, no trailing slash but for `/`. */
  path: z.string(),
  /** `namespace/name` of the ingress that this rule comes from, and of its service. */
  ingress: z.string(),
  service: z.string(),
  /** Healthy endpoints that the proxy may dial. Empty means 503, or 403 when `refused`. */
  targets: z.array(routeTarget),
  /** Set where there are healthy endpoints, and policies admit the proxy to none. */
  refused: z.literal(true).optional(),
});
export type Route = z.infer<typeof route>;

/** `version` only grows: it is the store revision and a counter of observations that the table was compiled from. */
export const routeSnapshot = z.strictObject({ version: z.int().min(0), routes: z.array(route) });

