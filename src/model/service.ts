/** A service: a virtual IP and the endpoints behind it, as users write it and as the store keeps it; imports nothing local but its parts. */
import { z } from 'zod';
import { ipv4, port, protocol } from './address.ts';
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

export const service = recordBase.extend({
  namespace: name,
  name,
  selector: labels.optional(),
  ports: z.array(servicePort).min(1),
  /** Whether the user wrote `ports` or the single `port`: answers use the same form. */
  manyPorts: z.boolean(),
  endpoints: z.array(explicitEndpoint),
  clusterIp: ipv4,
});
export type Service = z.infer<typeof service>;
