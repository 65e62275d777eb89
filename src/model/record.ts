/** What all stored records share: where they lie in the store and when they were made; imports nothing local. */
import { z } from 'zod';

/** Every record carries its format's version, so that a later release can tell an old one apart. */
export const recordBase = z.object({
  v: z.literal(1),
  createdAt: z.iso.datetime(),
});

/** The key of a namespaced noun, e.g. `services/default/web`. */
export function recordKey(kind: 'services' | 'ingresses' | 'workloads' | 'policies', { namespace, name }: Named): string {
  return `${kind}/${namespace}/${name}`;
}

export interface Named {
  readonly namespace: string;
  readonly name: string;
}
