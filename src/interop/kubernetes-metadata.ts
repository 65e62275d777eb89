/** The metadata of Kubernetes objects: names are read, annotations that would change what an object does are refused, the rest is passed over. */
import { z } from 'zod';
import { name } from '../model/name.ts';
import { wrong, type Form } from './refusal.ts';

const annotations = z.record(z.string(), z.string()).optional();

/** With a namespace, `default` unless given. Labels, uid and whatever else a cluster writes ask for nothing. */
export const kubernetesMetadata = z.looseObject({ name, namespace: name.default('default'), annotations });
export type KubernetesMetadata = z.output<typeof kubernetesMetadata>;

/** Set on an object of ours that Kubernetes and we read alike: it tells that it is no import. */
export const ORIGIN_ANNOTATION = 'clawbernetes.io/origin';

/** Prefixes of annotations that only record something. What else stands at an Ingress configures its controller. */
const RECORDING = /^(kubectl\.kubernetes\.io|meta\.helm\.sh|app\.kubernetes\.io|argocd\.argoproj\.io|prometheus\.io|clawbernetes\.io)$/;
/** Prefixes of annotations that change how a Service is reached. */
const SERVICE = /(^|\.)service(\.alpha|\.beta)?\.kubernetes\.io$|^(cloud\.google\.com|networking\.gke\.io|service\.cilium\.io|metallb\.(io|universe\.tf))$/;

/** Throws INVALID_ARGUMENT for the first annotation that asks for something that would not come about. */
export function refuseActiveAnnotations(form: Form, { annotations: given = {} }: Pick<KubernetesMetadata, 'annotations'>): void {
  for (const [key, value] of Object.entries(given)) {
    if (!isActive(form.kind, key, value)) continue;
    throw wrong(form, `metadata.annotations.${key}`, 'this annotation changes what other controllers do, and would do nothing here');
  }
}

function isActive(kind: string, key: string, value: string): boolean {
  const slash = key.lastIndexOf('/');
  const prefix = slash === -1 ? '' : key.slice(0, slash);
  if (kind === 'Service') return SERVICE.test(prefix);
  if (kind !== 'Ingress' || prefix === '' || RECORDING.test(prefix)) return false;
  return !(key === 'kubernetes.io/ingress.class' && isOurClass(value));
}

/** Policies take our proxy for the usual controller of Kubernetes, so its class is ours too. */
export function isOurClass(value: string): boolean {
  return value === 'nginx' || value === 'clawbernetes';
}
