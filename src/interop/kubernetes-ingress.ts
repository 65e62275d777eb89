/** Reads and writes Kubernetes Ingress objects (networking.k8s.io/v1). What can not be served is refused with its path, never left out. */
import { z } from 'zod';
import { port } from '../model/address.ts';
import { host, ingressForm, pathPrefix, type Ingress, type IngressRule } from '../model/ingress.ts';
import { name, portName } from '../model/name.ts';
import { isOurClass, kubernetesMetadata, refuseActiveAnnotations } from './kubernetes-metadata.ts';
import { readAs, wrong } from './refusal.ts';

export const INGRESS = { apiVersion: 'networking.k8s.io/v1', kind: 'Ingress' } as const;

const backendPort = z.union([z.strictObject({ number: port }), z.strictObject({ name: portName })], { error: 'a port is {number} or {name}' });
export type BackendPort = z.output<typeof backendPort>;

const path = z.strictObject({
  path: pathPrefix,
  pathType: z.literal('Prefix', { error: 'only pathType Prefix can be served: a path covers whatever lies below it' }),
  backend: z.strictObject({ service: z.strictObject({ name, port: backendPort }) }),
});

const kubernetesIngress = z.strictObject({
  apiVersion: z.literal(INGRESS.apiVersion).optional(),
  kind: z.literal(INGRESS.kind).optional(),
  metadata: kubernetesMetadata,
  spec: z.strictObject({
    ingressClassName: z.string().refine(isOurClass, { error: 'the proxy here takes the classes nginx and clawbernetes' }).optional(),
    rules: z.array(z.strictObject({ host, http: z.strictObject({ paths: z.array(path).min(1) }) })).min(1),
    tls: z.array(z.strictObject({ hosts: z.array(host).min(1) })).min(1).optional(),
  }),
  // Written by a cluster, never by people: it asks for nothing.
  status: z.unknown().optional(),
});

export interface ReadIngress {
  readonly namespace: string;
  readonly name: string;
  readonly rules: readonly IngressRule[];
  readonly tls: boolean;
  /** For each rule, where it stands in the object. */
  readonly places: readonly string[];
  /** For each rule, the port of the service that it names. */
  readonly ports: readonly BackendPort[];
}

/** Throws INVALID_ARGUMENT with the path inside the object, e.g. `spec.rules[0].http.paths[1].pathType`. */
export function readKubernetesIngress(object: unknown): ReadIngress {
  const { metadata, spec } = readAs(INGRESS, kubernetesIngress, object);
  refuseActiveAnnotations(INGRESS, metadata);
  const entries = spec.rules.flatMap((rule, outer) =>
    rule.http.paths.map((entry, inner) => ({
      rule: { host: rule.host, path: entry.path, service: entry.backend.service.name },
      place: `spec.rules[${outer}].http.paths[${inner}]`,
      port: entry.backend.service.port,
    })),
  );
  const secured = new Set(spec.tls?.flatMap(({ hosts }) => hosts));
  const plain = spec.tls === undefined ? -1 : spec.rules.findIndex((rule) => !secured.has(rule.host));
  if (plain !== -1) throw wrong(INGRESS, 'spec.tls', `TLS is for all hosts of an ingress, and ${spec.rules[plain]?.host ?? ''} of spec.rules[${plain}] is not among its hosts`);
  const rules = ingressForm.rules.safeParse(entries.map(({ rule }) => rule));
  if (!rules.success) throw wrong(INGRESS, 'spec.rules', `at most 200 paths are allowed in one ingress, these are ${entries.length}`);
  return {
    namespace: metadata.namespace,
    name: metadata.name,
    rules: rules.data,
    tls: spec.tls !== undefined,
    places: entries.map(({ place }) => place),
    ports: entries.map((entry) => entry.port),
  };
}

/** Undefined where it can not be said: `portOf` tells the port of a service that answers an ingress, where there is one. */
export function kubernetesIngressObject({ namespace, name: called, rules, tls }: Ingress, portOf: (service: string) => number | undefined) {
  const said: { host: string; http: { paths: unknown[] } }[] = [];
  for (const rule of rules) {
    const number = portOf(rule.service);
    if (number === undefined) return undefined;
    const entry = { path: rule.path, pathType: 'Prefix', backend: { service: { name: rule.service, port: { number } } } };
    const last = said.at(-1);
    // In the order of the rules, so that they are read back in it.
    if (last?.host === rule.host) last.http.paths.push(entry);
    else said.push({ host: rule.host, http: { paths: [entry] } });
  }
  const hosts = [...new Set(rules.map((rule) => rule.host))];
  return { ...INGRESS, metadata: { name: called, namespace }, spec: { rules: said, ...(tls ? { tls: [{ hosts }] } : {}) } };
}
