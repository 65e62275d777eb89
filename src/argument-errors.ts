/** Says what is wrong with the arguments of a call: the value, its path in the caller's notation, and the form it should have. */
import type { z } from 'zod';
import type { Tool } from '../tools/define.ts';
import { ClawError } from './errors.ts';
import { deepestIssue } from './model/deepest-issue.ts';

/** How much of a caller's own text an error repeats. */
const MAX_SHOWN = 60;

/** The first issue as a ClawError with its path in the caller's notation, e.g. `ports[1].port`. */
export function invalidArguments(tool: Tool, error: z.ZodError): ClawError {
  const outer = error.issues[0];
  const issue = outer === undefined ? undefined : deepestIssue(outer);
  if (outer === undefined || issue === undefined) return new ClawError('INVALID_ARGUMENT', 'the arguments are wrong', { cause: error });
  const missing = error.issues.filter((other) => other.input === undefined && other.code !== 'unrecognized_keys' && other.path.length === 1);
  if (missing.length > 1 && missing.includes(outer)) {
    const names = missing.map((other) => pathText(other.path)).join(', ');
    return new ClawError('INVALID_ARGUMENT', `${names} are missing`, { path: pathText(issue.path), hint: argumentsOf(tool), cause: error });
  }
  const more = error.issues.length > 1 ? ` (and ${error.issues.length - 1} more)` : '';
  if (issue.code === 'unrecognized_keys') {
    const place = issue.path.length === 0 ? `argument of ${tool.command}` : `field of ${pathText(issue.path)}`;
    // Zod's path ends at the object that holds the unknown key.
    return new ClawError('INVALID_ARGUMENT', `${issue.keys.map((key) => key.slice(0, MAX_SHOWN)).join(', ').slice(0, 4 * MAX_SHOWN)} is no ${place}${more}`, {
      path: pathText([...issue.path, issue.keys[0] ?? '']).slice(0, 4 * MAX_SHOWN),
      hint: issue.path.length === 0 ? argumentsOf(tool) : `docs: ${tool.command} says what ${pathText(issue.path)} holds.`,
      cause: error,
    });
  }
  const path = pathText(isSecret(issue.path) ? issue.path.slice(0, 1) : issue.path);
  return new ClawError('INVALID_ARGUMENT', `${path === '' ? 'the arguments' : path}: ${wordsOf(issue)}${more}`, {
    ...(path === '' ? {} : { path }),
    hint: hintFor(issue) ?? argumentsOf(tool),
    cause: error,
  });
}

/** All arguments, required ones marked. */
function argumentsOf(tool: Tool): string {
  const names = Object.entries(tool.input.shape).map(([name, schema]) => (schema.safeParse(undefined).success ? name : `${name} (required)`));
  return names.length === 0 ? `${tool.command} takes no arguments.` : `${tool.command} takes ${names.join(', ')}.`;
}

/** The form that a value of the wrong type should have had. */
function hintFor(issue: z.core.$ZodIssue): string | undefined {
  if (issue.code === 'too_big' && issue.origin === 'array') return 'Give fewer, or spread them over several objects.';
  if (issue.code === 'too_big' && issue.origin === 'string') return 'Give a shorter one.';
  if (issue.code !== 'invalid_type') return undefined;
  const { input } = issue;
  if (issue.expected === 'array' && typeof input === 'string') return `Give a list: ${JSON.stringify(input.slice(0, MAX_SHOWN).split(' '))}.`;
  if (issue.expected === 'array') return 'Give a list, in [ ].';
  if (issue.expected === 'record') return 'Give an object of names and values, such as {"app": "web"}.';
  if (issue.expected === 'object') return 'Give an object, in { }.';
  if ((issue.expected === 'number' || issue.expected === 'int') && typeof input === 'string') return 'Give a number, without quotes.';
  if (issue.expected === 'string' && (typeof input === 'number' || typeof input === 'boolean')) return 'Give it in quotes.';
  return undefined;
}

/** The issue in words, always with the value that was given: zod tells only its type, our own messages often the value itself. */
function wordsOf(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_key') return issue.issues[0]?.message ?? issue.message;
  if (issue.input === undefined) return 'is missing';
  if (issue.code === 'too_small' && issue.origin === 'array') return 'at least one is needed';
  if (issue.code === 'too_big' && Array.isArray(issue.input)) return `at most ${issue.maximum} are allowed, these are ${issue.input.length}`;
  // Environment variables are where secrets live: their values are never repeated.
  if (issue.path[0] === 'env') return issue.message.replace(/^Invalid input: /, '');
  const words = issue.message.replace(/^(Invalid (input|option)|Too (small|big)): /, '').replace('expected record', 'expected an object');
  // The arguments as a whole may hold anything, secrets too.
  if (issue.path.length === 0) return words;
  const value = textOf(issue.input);
  return words.includes(value) ? words : `${words}, got ${value.length > MAX_SHOWN ? `${value.slice(0, MAX_SHOWN - 3)}...` : value}`;
}

/** What was meant to be the name of a variable may be a whole `NAME=secret`. */
function isSecret([argument, name]: readonly PropertyKey[]): boolean {
  return argument === 'env' && name !== undefined && !/^\w{1,40}$/.test(String(name));
}

function textOf(value: unknown): string {
  try {
    return JSON.stringify(value) ?? typeof value;
  } catch {
    return 'something nested too deep to be shown';
  }
}

function pathText(path: readonly PropertyKey[]): string {
  return path.map((part, index) => (typeof part === 'number' ? `[${part}]` : `${index === 0 ? '' : '.'}${shortened(String(part))}`)).join('');
}

/** The longest key that may be right is a label's, of 253 + 1 + 63 characters. */
function shortened(key: string): string {
  return key.length > 320 ? `${key.slice(0, 317)}...` : key;
}
