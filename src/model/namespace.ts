/** A namespace: a group of names, and labels that policies can select; imports nothing local but its parts. */
import type { z } from 'zod';
import { labels, name } from './name.ts';
import { recordBase } from './record.ts';

export const namespace = recordBase.extend({ name, labels });
export type Namespace = z.infer<typeof namespace>;

/** The label that every namespace carries by itself, as in Kubernetes. */
export const NAMESPACE_NAME_LABEL = 'kubernetes.io/metadata.name';
