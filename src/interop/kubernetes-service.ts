/** Reads and writes Kubernetes Service objects (v1). What can not be served is refused with its path, never left out. */
import { z } from 'zod';
import { ipv4, port, type Ipv4 } from '../model/address.ts';
import { labels, portName } from '../model/name.ts';
import { sessionAffinity, targetPort, type Service } from '../model/service.ts';
import type { ServiceForm } from '../model/service-form.ts';
import { kubernetesMetadata, refuseActiveAnnotations } from './kubernetes-metadata.ts';
import { readAs } from './refusal.ts';

export const SERVICE = { apiVersion: 'v1', kind: 'Service' } as const;

const servicePort = z.strictObject({
  name: portName.optional(),
  port,
  targetPort: targetPort.optional(),
  protocol: z.enum(['TCP', 'UDP'], { error: 'a service carries TCP or UDP' }).default('TCP'),
  // A hint that says what is so anyway.
  appProtocol: z.enum(['http', 'tcp'], { error: 'a service is carried as it is: http and tcp say nothing else' }).optional(),
});

/** An empty one asks for an address, as does none at all. */
const clusterIp = z
  .string()
  .refine((text) => text !== 'None', { error: 'every service has a virtual IP: a headless one can not be served', abort: true })
  .pipe(z.union([z.literal(''), ipv4]));

const kubernetesService = z.strictObject({
  apiVersion: z.literal(SERVICE.apiVersion).optional(),
  kind: z.literal(SERVICE.kind).optional(),
  metadata: kubernetesMetadata,
  spec: z.strictObject({
    type: z.literal('ClusterIP', { error: 'only services of type ClusterIP can be served; from outside an Ingress leads in' }).optional(),
    selector: labels.optional(),
    ports: z.array(servicePort).min(1).max(64),
    clusterIP: clusterIp.optional(),
    clusterIPs: z.array(clusterIp).max(1, { error: 'a service has one virtual IP' }).optional(),
    sessionAffinity: z.enum(['None', 'ClientIP'], { error: 'a session affinity is None or ClientIP' }).default('None'),
    sessionAffinityConfig: z.strictObject({ clientIP: z.strictObject({ timeoutSeconds: sessionAffinity.shape.timeoutSeconds }) }).optional(),
    // What a cluster fills in, as far as it is so here.
    ipFamilies: z.array(z.literal('IPv4', { error: 'services have IPv4 only' })).optional(),
    ipFamilyPolicy: z.literal('SingleStack', { error: 'services have IPv4 only' }).optional(),
    internalTrafficPolicy: z.literal('Cluster', { error: 'new connections go to every endpoint' }).optional(),
    publishNotReadyAddresses: z.literal(false, { error: 'what is not ready gets no connection' }).optional(),
  }),
  // Written by a cluster, never by people: it asks for nothing.
  status: z.unknown().optional(),
});

export interface ReadService {
  readonly namespace: string;
  readonly name: string;
  readonly form: ServiceForm;
  /** The virtual IP that it wishes to have, and where it says so. */
  readonly wish?: { readonly ip: Ipv4; readonly path: string };
}

/** Throws INVALID_ARGUMENT with the path inside the object, e.g. `spec.ports[0].nodePort`. */
export function readKubernetesService(object: unknown): ReadService {
  const { metadata, spec } = readAs(SERVICE, kubernetesService, object);
  refuseActiveAnnotations(SERVICE, metadata);
  const ports = spec.ports.map(({ protocol, appProtocol: _appProtocol, ...rest }) => ({ ...rest, protocol: protocol === 'TCP' ? ('tcp' as const) : ('udp' as const) }));
  const [first] = ports;
  const single = ports.length === 1 && first !== undefined && first.name === undefined;
  const affinity = spec.sessionAffinity === 'None' ? {} : { sessionAffinity: sessionAffinity.parse({ type: 'clientIP', ...spec.sessionAffinityConfig?.clientIP }) };
  const wishes = [['spec.clusterIP', spec.clusterIP], ['spec.clusterIPs[0]', spec.clusterIPs?.[0]]] as const;
  const [wish] = wishes.flatMap(([path, ip]) => (ip === undefined || ip === '' ? [] : [{ ip, path }]));
  return {
    namespace: metadata.namespace,
    name: metadata.name,
    form: { ...(spec.selector === undefined ? {} : { selector: spec.selector }), ...(single ? first : { ports }), ...affinity },
    ...(wish === undefined ? {} : { wish }),
  };
}

/** As far as Kubernetes can say it; the virtual IP belongs to this node and is left out. */
export function kubernetesServiceObject({ namespace, name, selector, ports, sessionAffinity: affinity }: Service) {
  return {
    ...SERVICE,
    metadata: { name, namespace },
    spec: {
      ...(selector === undefined ? {} : { selector }),
      ports: ports.map(({ protocol, ...rest }) => ({ ...rest, protocol: protocol === 'tcp' ? 'TCP' : 'UDP' })),
      ...(affinity === undefined ? {} : { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: affinity.timeoutSeconds } } }),
    },
  };
}
