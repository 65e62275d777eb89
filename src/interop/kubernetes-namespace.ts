/** Reads a Kubernetes Namespace object as one of ours. */
import { z } from 'zod';
import { ClawError } from '../errors.ts';
import { labels, name, type Labels } from '../model/name.ts';

const kubernetesNamespace = z.object({ metadata: z.object({ name, labels: labels.nullish() }) });

/** Throws INVALID_ARGUMENT with the path inside the object. */
export function readKubernetesNamespace(object: unknown): { name: string; labels: Labels } {
  const parsed = kubernetesNamespace.safeParse(object);
  if (parsed.success) return { name: parsed.data.metadata.name, labels: parsed.data.metadata.labels ?? {} };
  const [issue] = parsed.error.issues;
  const path = (issue?.path ?? []).join('.');
  throw new ClawError('INVALID_ARGUMENT', `${path}: ${issue?.message ?? 'it can not be read'}`, { path, hint: 'The form is that of a v1 Namespace.' });
}
