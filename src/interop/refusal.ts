/** Says which part of an object can not be taken, by its path inside of it. It knows no kind. */
import type { z } from 'zod';
import { ClawError } from '../errors.ts';
import { deepestIssue } from '../model/deepest-issue.ts';

/** What an object should have been: `v1`, `Service`. */
export interface Form {
  readonly apiVersion: string;
  readonly kind: string;
}

/** INVALID_ARGUMENT whose message begins with its path. */
export function wrong({ apiVersion, kind }: Form, path: string, message: string): ClawError {
  return new ClawError('INVALID_ARGUMENT', `${path}: ${message}`, { path, hint: `The form is that of ${apiVersion} ${kind}.` });
}

/** The object as the schema has it. Throws INVALID_ARGUMENT with the path inside the object, e.g. `spec.ports[0].nodePort`. */
export function readAs<Output>(form: Form, schema: z.ZodType<Output>, object: unknown): Output {
  const parsed = schema.safeParse(withoutNulls(object), { reportInput: true });
  if (parsed.success) return parsed.data;
  throw refused(form, parsed.error.issues[0]);
}

/** The path as people write it: `ports[0].name`. */
export function pathText(path: readonly PropertyKey[]): string {
  return path.map((step, index) => (typeof step === 'number' ? `[${step}]` : `${index === 0 ? '' : '.'}${String(step)}`)).join('');
}

/** What `read` gives, or its refusal with the place in front where the object stands; `inside` tells where its paths lie in there. */
export function at<Read>(place: string, read: () => Read, inside = (path: string): string => path): Read {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof ClawError) || error.path === undefined || !ABOUT_OBJECTS.has(error.code)) throw error;
    const within = inside(error.path);
    const path = `${place}${within === '' || within.startsWith('[') ? '' : '.'}${within}`;
    const message = error.message.startsWith(`${error.path}: `) ? error.message.slice(error.path.length + 2) : error.message;
    throw new ClawError(error.code, `${path}: ${message}`, { path, cause: error, ...(error.hint === undefined ? {} : { hint: error.hint }) });
  }
}

/** The codes whose path names a part of what was given; that of RANGE_FULL for one names the configuration. */
const ABOUT_OBJECTS: ReadonlySet<string> = new Set(['INVALID_ARGUMENT', 'NOT_SUPPORTED', 'LIMIT_EXCEEDED']);

/** In a manifest null means the same as leaving the key out, but not for a label: a selector that loses one means more workloads. */
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).flatMap(([key, inner]) => (inner === null ? [] : [[key, key === 'matchLabels' ? inner : withoutNulls(inner)]])));
}

function refused(form: Form, outer: z.core.$ZodIssue | undefined): ClawError {
  if (outer === undefined) return wrong(form, '', 'it can not be read');
  const issue = deepestIssue(outer);
  if (issue.code === 'unrecognized_keys') return wrong(form, pathText([...issue.path, issue.keys[0] ?? '']), `no field of ${article(form.kind)} that can be enforced`);
  const words = issue.code === 'invalid_key' ? (issue.issues[0]?.message ?? issue.message) : issue.message.replace(/^(Invalid (input|option)|Too (small|big)): /, '');
  return wrong(form, pathText(issue.path), issue.input === undefined ? 'is missing' : `${words}, got ${(JSON.stringify(issue.input) ?? '').slice(0, 60)}`);
}

function article(kind: string): string {
  return `${/^[AEIOU]/.test(kind) ? 'an' : 'a'} ${kind}`;
}
