/** A service: a virtual IP and the endpoints behind it, as users write it and as the store keeps it; imports nothing local but its parts. */
import { z } from 'zod';
import { ipv4, port, protocol } from './address.ts';
import { healthCheck } from './health-check.ts';
import { labels, name, portName } from './name.ts';
import { recordBase } from './record.ts';

/** A port of the pods behind a service: a number, or a name that each workload resolves for itself. */
export const targetPort = z.union([port, portName], { error: 'a target port is a number from 1 to 65535 or the name of a workload port' });

export const servicePort = z.strictObject({
  name: portName.optional(),
  port,
  protocol,
  /** The endpoints' port; the service's own when absent. */
  targetPort: targetPort.optional(),
});
export type ServicePort = z.infer<typeof servicePort>;

/** An address that the user names instead of a selector. Without `port`, the service port's numeric target is used. */
export const explicitEndpoint = z.strictObject({ ip: ipv4, port: port.optional() });
export type ExplicitEndpoint = z.infer<typeof explicitEndpoint>;

/** Each client stays at one endpoint until it has not connected for so long. The default is that of Kubernetes. */
export const sessionAffinity = z.strictObject({
  type: z.literal('clientIP', { error: 'the only session affinity is "clientIP"' }),
  timeoutSeconds: z
    .int({ error: 'this is a whole number of seconds' })
    .min(1, { error: 'at least 1 s' })
    .max(86_400, { error: 'at most 86400 s, a day' })
    .default(10_800),
});

/** How long TCP connections to an endpoint that has left go on before they are reset. */
export const drainSeconds = z
  .int({ error: 'this is a whole number of seconds' })
  .min(0, { error: 'at least 0' })
  .max(3600, { error: 'at most 3600 s, an hour' });

export const service = recordBase.extend({
  namespace: name,
  name,
  selector: labels.optional(),
  ports: z.array(servicePort).min(1),
  /** Whether the user wrote `ports` or the single `port`: answers use the same form. */
  manyPorts: z.boolean(),
  endpoints: z.array(explicitEndpoint),
  clusterIp: ipv4,
  healthCheck: healthCheck.optional(),
  sessionAffinity: sessionAffinity.optional(),
  /** Without it connections to an endpoint that has left are left to themselves. */
  drainSeconds: drainSeconds.optional(),
});
export type Service = z.infer<typeof service>;
