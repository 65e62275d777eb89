/** A label selector as Kubernetes defines it, and what it matches; imports nothing local but its parts. */
import { z } from 'zod';
import { labelKey, labels, labelValue, type Labels } from './name.ts';

export const selectorOperator = z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']);

/** `In` and `NotIn` compare with values; the other two ask only whether the key is there. */
export const selectorExpression = z
  .strictObject({ key: labelKey, operator: selectorOperator, values: z.array(labelValue).max(64).optional() })
  .superRefine(({ operator, values = [] }, context) => {
    const compares = operator === 'In' || operator === 'NotIn';
    if (compares && values.length === 0) context.addIssue({ code: 'custom', path: ['values'], message: `${operator} needs at least one value`, input: values });
    if (!compares && values.length > 0) context.addIssue({ code: 'custom', path: ['values'], message: `${operator} takes no values`, input: values });
  });
export type SelectorExpression = z.infer<typeof selectorExpression>;

/** Everything in it must hold; an empty one matches everything. What is empty in it is left out, so that one meaning has one form. */
export const labelSelector = z
  .strictObject({
    matchLabels: labels.optional(),
    matchExpressions: z.array(selectorExpression).max(64).optional(),
  })
  .transform(({ matchLabels = {}, matchExpressions = [] }) => ({
    ...(Object.keys(matchLabels).length === 0 ? {} : { matchLabels }),
    ...(matchExpressions.length === 0 ? {} : { matchExpressions }),
  }));
export type LabelSelector = z.infer<typeof labelSelector>;

export function selects({ matchLabels = {}, matchExpressions = [] }: LabelSelector, candidate: Labels): boolean {
  for (const key in matchLabels) if (candidate[key] !== matchLabels[key]) return false;
  return matchExpressions.every((expression) => holds(expression, candidate));
}

/** The same text for selectors that mean the same: keys in order, what is empty left out. */
export function selectorText({ matchLabels = {}, matchExpressions = [] }: LabelSelector): string {
  const wanted = Object.entries(matchLabels).map(([key, value]) => `${key}=${value}`);
  const expressions = matchExpressions.map(({ key, operator, values = [] }) => `${key} ${operator}${values.length > 0 ? ` (${values.toSorted().join(', ')})` : ''}`);
  return [...new Set([...wanted, ...expressions])].toSorted().join(', ');
}

function holds({ key, operator, values = [] }: SelectorExpression, candidate: Labels): boolean {
  const value = Object.hasOwn(candidate, key) ? candidate[key] : undefined;
  if (operator === 'Exists') return value !== undefined;
  if (operator === 'DoesNotExist') return value === undefined;
  // As in Kubernetes: a label that is not there differs from every value.
  const isOne = value !== undefined && values.includes(value);
  return operator === 'In' ? isOne : !isOne;
}
