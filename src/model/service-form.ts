/** The form in which people and agents write services, as zod schemas; imports nothing local but its parts. */
import { z } from 'zod';
import { port, protocol } from './address.ts';
import { healthCheck } from './health-check.ts';
import { labels, portName } from './name.ts';
import { drainSeconds, explicitEndpoint, sessionAffinity, targetPort } from './service.ts';

const portEntry = z.strictObject({
  name: portName.optional(),
  port,
  protocol: protocol.default('tcp'),
  targetPort: targetPort.optional(),
});

/** Each field by itself; which of them a call needs is its own affair. */
export const serviceFields = {
  selector: labels.describe('Labels that its workloads carry'),
  port: port.describe('Port of the virtual IP; needed unless ports is given'),
  targetPort: targetPort.describe("The workloads' port, by number or port name; default: port"),
  ports: z.array(portEntry).min(1).max(64).describe('Several ports, instead of port').meta({ brief: 'Several, instead of port: {name, port, protocol, targetPort}' }),
  endpoints: z
    .array(explicitEndpoint)
    .max(256)
    .describe('Fixed addresses, instead of a selector; port defaults to the target port')
    .meta({ brief: 'Fixed addresses, instead of a selector: {ip, port (default: targetPort)}' }),
  sessionAffinity: sessionAffinity.describe('Keep each client at one endpoint').meta({ brief: 'Keep each client at one endpoint: {type: "clientIP", timeoutSeconds (10800)}' }),
  healthCheck: healthCheck.describe('Probes the first TCP port; without it, healthy means running').meta({
    type: 'object',
    brief: 'Probe the first TCP port: {type: tcp or http, path, intervalMs (5000), timeoutMs (1000), failures in a row (3), successes (1)}; without it, running is healthy',
  }),
  drainSeconds: drainSeconds.describe('Reset TCP to an endpoint that left after so long; default: never'),
};

export const serviceForm = {
  selector: serviceFields.selector.optional(),
  port: serviceFields.port.optional(),
  protocol: protocol.optional().describe('Default: tcp'),
  targetPort: serviceFields.targetPort.optional(),
  ports: serviceFields.ports.optional(),
  endpoints: serviceFields.endpoints.optional(),
  sessionAffinity: serviceFields.sessionAffinity.optional(),
  healthCheck: serviceFields.healthCheck.optional(),
  drainSeconds: serviceFields.drainSeconds.optional(),
};
const wholeForm = z.strictObject(serviceForm);
export type ServiceForm = z.output<typeof wholeForm>;
