/** Finds what really is wrong in a zod issue of a union: the branch that the value came nearest to. Imports nothing local. */
import type { z } from 'zod';

/** The issue itself, or, of a union's, the one that lies deepest, with its whole path. */
export function deepestIssue(issue: z.core.$ZodIssue): z.core.$ZodIssue {
  if (issue.code !== 'invalid_union') return issue;
  const inner = issue.errors.flatMap(([first, ...more]) => (first === undefined ? [] : [{ first: deepestIssue(first), more: more.length }]));
  const [nearest] = inner.toSorted((a, b) => b.first.path.length - a.first.path.length || a.more - b.more);
  // Where every branch refuses the value as a whole, the union's own words are better than those of a branch.
  if (nearest === undefined || nearest.first.path.length === 0) return nearest !== undefined && isSaid(nearest.first) ? { ...nearest.first, path: issue.path } : issue;
  return { ...nearest.first, path: [...issue.path, ...nearest.first.path] };
}

/** Whether the message is one of ours or names the offending key, not merely a type that was expected. */
function isSaid({ code }: z.core.$ZodIssue): boolean {
  return code === 'custom' || code === 'unrecognized_keys' || code === 'too_small' || code === 'too_big';
}
