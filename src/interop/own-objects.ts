/** Objects of our own apiVersion, for what Kubernetes has no words for: metadata as there, and a spec in the form of our commands. */
import { z } from 'zod';
import { ingressForm, type Ingress } from '../model/ingress.ts';
import { name, namespaceName } from '../model/name.ts';
import type { Policy } from '../model/policy.ts';
import { nativePolicy } from '../model/policy-form.ts';
import { serviceForm, type ServiceForm } from '../model/service-form.ts';
import type { Service } from '../model/service.ts';
import type { PolicyParts } from '../policy/parties.ts';
import { parsePolicyForm, policyForm } from './native-policy.ts';
import { at, readAs } from './refusal.ts';

export const OWN_API_VERSION = 'clawbernetes.io/v1';
export type OwnKind = 'NetworkPolicy' | 'Service' | 'Ingress';

const metadata = z.strictObject({ name, namespace: namespaceName });
const origin = z.enum(['native', 'kubernetes']).default('native');
const { selector, ingress, egress, mode } = nativePolicy.shape;

const ownPolicy = ownObject('NetworkPolicy', z.strictObject({ selector, ingress, egress, mode, origin }));
const ownService = ownObject('Service', z.strictObject(serviceForm));
const ownIngress = ownObject('Ingress', z.strictObject(ingressForm));

/** Throws INVALID_ARGUMENT with the path inside the object, as do the next two. */
export function readOwnPolicy(object: unknown): PolicyParts {
  const { metadata: named, spec } = readAs(formOf('NetworkPolicy'), ownPolicy, object);
  const parts = at('spec', () => parsePolicyForm(spec));
  return { namespace: named.namespace, name: named.name, origin: spec.origin, ...parts, mode: spec.mode ?? 'enforce' };
}

export function readOwnService(object: unknown): { namespace: string; name: string; form: ServiceForm } {
  const { metadata: named, spec } = readAs(formOf('Service'), ownService, object);
  return { ...named, form: spec };
}

export function readOwnIngress(object: unknown): Pick<Ingress, 'namespace' | 'name' | 'rules' | 'tls'> {
  const { metadata: named, spec } = readAs(formOf('Ingress'), ownIngress, object);
  return { ...named, ...spec };
}

export function ownPolicyObject(policy: Policy) {
  const { mode: how, origin: whence } = policy;
  return own('NetworkPolicy', policy, { ...policyForm(policy), ...(how === 'enforce' ? {} : { mode: how }), ...(whence === 'native' ? {} : { origin: whence }) });
}

export function ownServiceObject(service: Service) {
  const { v: _v, createdAt: _createdAt, namespace: _namespace, name: _name, clusterIp: _clusterIp, manyPorts, ports, endpoints, ...rest } = service;
  return own('Service', service, { ...rest, ...(manyPorts ? { ports } : ports[0]), ...(endpoints.length === 0 ? {} : { endpoints }) });
}

export function ownIngressObject(stored: Ingress) {
  return own('Ingress', stored, { rules: stored.rules, ...(stored.tls ? { tls: true } : {}) });
}

function ownObject<Spec extends z.ZodType>(kind: OwnKind, spec: Spec) {
  return z.strictObject({ apiVersion: z.literal(OWN_API_VERSION), kind: z.literal(kind), metadata, spec });
}

function formOf(kind: OwnKind) {
  return { apiVersion: OWN_API_VERSION, kind };
}

function own<Spec>(kind: OwnKind, { namespace, name: called }: { namespace: string; name: string }, spec: Spec) {
  return { ...formOf(kind), metadata: { name: called, namespace }, spec };
}
