/** Writes each of our nouns in the plainest form that says all of it: Kubernetes' own where it can, else ours. Pure. */
import type { Ingress } from '../model/ingress.ts';
import type { Policy } from '../model/policy.ts';
import type { Service } from '../model/service.ts';
import { kubernetesIngressObject } from './kubernetes-ingress.ts';
import { kubernetesPolicyObject } from './kubernetes-policy-object.ts';
import { kubernetesServiceObject } from './kubernetes-service.ts';
import { ownIngressObject, ownPolicyObject, ownServiceObject } from './own-objects.ts';

export function policyObject(policy: Policy) {
  return kubernetesPolicyObject(policy) ?? ownPolicyObject(policy);
}

export function serviceObject(service: Service) {
  const { healthCheck, drainSeconds, endpoints, ports, manyPorts } = service;
  // A list of one port without a name is read back as a single port.
  const sameForm = manyPorts === (ports.length > 1 || ports[0]?.name !== undefined);
  const sayable = sameForm && healthCheck === undefined && drainSeconds === undefined && endpoints.length === 0;
  return sayable ? kubernetesServiceObject(service) : ownServiceObject(service);
}

/** Kubernetes names the service's port: where there is none yet, it can not be said. */
export function ingressObject(ingress: Ingress, portOf: (service: string) => number | undefined) {
  return kubernetesIngressObject(ingress, portOf) ?? ownIngressObject(ingress);
}
