/** Reads and writes Kubernetes Namespace objects. */
import { z } from 'zod';
import { labels, name, type Labels } from '../model/name.ts';
import { readAs } from './refusal.ts';

export const NAMESPACE = { apiVersion: 'v1', kind: 'Namespace' } as const;

const kubernetesNamespace = z.strictObject({
  apiVersion: z.literal(NAMESPACE.apiVersion).optional(),
  kind: z.literal(NAMESPACE.kind).optional(),
  metadata: z.looseObject({ name, labels: labels.default({}) }),
  // Finalizers, which a cluster writes: they ask for nothing.
  spec: z.unknown().optional(),
  status: z.unknown().optional(),
});

export interface ReadNamespace {
  readonly name: string;
  readonly labels: Labels;
}

/** Throws INVALID_ARGUMENT with the path inside the object. */
export function readKubernetesNamespace(object: unknown): ReadNamespace {
  const { metadata } = readAs(NAMESPACE, kubernetesNamespace, object);
  return { name: metadata.name, labels: metadata.labels };
}

export function kubernetesNamespaceObject({ name: called, labels: carried }: ReadNamespace) {
  return { ...NAMESPACE, metadata: { name: called, ...(Object.keys(carried).length === 0 ? {} : { labels: carried }) } };
}
