/** Names and labels, as RFC 1123 and Kubernetes define them; imports nothing local. */
import { z } from 'zod';

const DNS_LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;

/** An RFC 1123 label: what every noun is called. */
export const name = z
  .string()
  .max(63, { error: (issue) => `a name holds at most 63 characters, this one has ${typeof issue.input === 'string' ? issue.input.length : 'more'}` })
  .regex(DNS_LABEL, { error: 'a name is lower case letters, digits and "-", and starts and ends with a letter or digit' });

/** A namespace's name; "default" when left out. */
export const namespaceName = name.default('default').describe('Namespace');

/** A port's name: an RFC 6335 service name of at most 15 characters with at least one letter. */
export const portName = z
  .string()
  .max(15, { error: (issue) => `a port name holds at most 15 characters, this one has ${typeof issue.input === 'string' ? issue.input.length : 'more'}` })
  .regex(/^(?=.*[a-z])[a-z0-9]([-a-z0-9]*[a-z0-9])?$/, { error: 'a port name is lower case letters, digits and "-", with at least one letter' });

export const labelKey = z
  .string()
  .regex(/^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/, {
    error: 'a label key is [prefix/]name: the prefix a DNS name of at most 253 characters, the name at most 63 of letters, digits, "-", "_" and "."',
  });

export const labelValue = z
  .string()
  .regex(/^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/, {
    error: 'a label value is at most 63 of letters, digits, "-", "_" and ".", starting and ending with a letter or digit',
  });

/** Labels of a workload or namespace, and selectors that name each label they want. At most 64 pairs. */
export const labels = z
  .record(labelKey, labelValue)
  .refine((map) => Object.keys(map).length <= 64, { error: (issue) => `at most 64 labels are allowed, these are ${typeof issue.input === 'object' && issue.input !== null ? Object.keys(issue.input).length : 'more'}` });
export type Labels = z.infer<typeof labels>;

/** Whether the labels hold every pair of the selector. An empty selector matches everything. */
export function matches(selector: Labels, candidate: Labels): boolean {
  return Object.entries(selector).every(([key, value]) => candidate[key] === value);
}
