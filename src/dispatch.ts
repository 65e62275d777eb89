/** The one door: every surface's call is parsed, authorised, run, waited for and audited here, and nowhere else. */
import type { z } from 'zod';
import type { Tool } from '../tools/define.ts';
import { findTool, tools } from '../tools/index.ts';
import type { AuditLog } from './audit.ts';
import { ClawError, toClawError } from './errors.ts';
import type { Managers } from './managers/managers.ts';
import type { Enforcement } from './model/enforcement.ts';

export interface Door {
  readonly managers: Managers;
  readonly audit: AuditLog;
  /** Waits until the revision is programmed, or known not to be. */
  programmed(revision: number, signal: AbortSignal): Promise<Enforcement>;
  /** The same without waiting. */
  isProgrammed(revision: number): Enforcement;
  /** The same for the routes of the ingress proxy. */
  served(revision: number, signal: AbortSignal): Promise<Enforcement>;
  isServed(revision: number): Enforcement;
}

export interface Call {
  /** Dotted id or tool name. */
  readonly command: string;
  readonly params: unknown;
  /** Who called, as far as known: for the audit log only, never for a decision. */
  readonly caller: Caller;
  readonly limits?: CallLimits;
}

export interface Caller {
  readonly surface: string;
  readonly peer: Promise<string>;
}

/** What a surface was told to hide is also refused here. */
export interface CallLimits {
  readonly readOnly?: boolean;
  readonly toolsets?: readonly string[];
}

/** The command's answer. Throws ClawError; then nothing was changed, unless it is CANCELLED: the caller left while the change was being programmed. */
export async function dispatch(door: Door, call: Call, signal: AbortSignal): Promise<Record<string, unknown>> {
  const startedAt = performance.now();
  const record = { command: call.command, params: call.params, caller: call.caller };
  try {
    const tool = requireTool(call.command);
    requireAllowed(tool, call.limits ?? {});
    const { answer, revision } = await runTool(door, tool, { params: call.params, signal });
    door.audit.write({ ...record, command: tool.command, effect: tool.effect, durationMs: performance.now() - startedAt, revision });
    return answer;
  } catch (thrown) {
    const error = toClawError(thrown);
    door.audit.write({ ...record, durationMs: performance.now() - startedAt, error });
    throw error;
  }
}

interface ToolCall {
  readonly params: unknown;
  readonly signal: AbortSignal;
}

async function runTool(door: Door, tool: Tool, { params, signal }: ToolCall) {
  refuseNotYet(tool, params);
  const handled = await tool.run(door.managers, parseInput(tool, params), signal);
  const { answer, revision } = handled;
  if (revision === undefined || !('enforced' in tool.output.shape)) return { answer, revision };
  const known = await enforcementOf(door, tool, { revision, signal });
  const enforcement = handled.notEnforced === undefined ? known : { enforced: false, reason: handled.notEnforced };
  return { answer: { ...answer, ...enforcement }, revision };
}

/** What an ingress says is in force once the proxy serves it; everything else once the kernel holds it. */
function enforcementOf(door: Door, tool: Tool, { revision, signal }: { revision: number; signal: AbortSignal }): Promise<Enforcement> | Enforcement {
  const ingress = tool.toolset === 'ingress';
  if (tool.effect === 'read') return ingress ? door.isServed(revision) : door.isProgrammed(revision);
  return ingress ? door.served(revision, signal) : door.programmed(revision, signal);
}

function requireTool(command: string): Tool {
  const tool = findTool(command);
  if (tool !== undefined) return tool;
  const [group] = command.split(/[._]/, 1);
  const near = tools.map((candidate) => candidate.command).filter((candidate) => candidate.startsWith(`${group}.`));
  throw new ClawError('UNKNOWN_COMMAND', `there is no command ${JSON.stringify(command.slice(0, 60))}`, {
    path: 'command',
    hint: `Commands: ${(near.length > 0 ? near : tools.map((candidate) => candidate.command)).join(', ')}.`,
  });
}

function requireAllowed(tool: Tool, { readOnly = false, toolsets }: CallLimits): void {
  if (readOnly && tool.effect !== 'read') {
    throw new ClawError('NOT_ALLOWED', `${tool.command} changes something, and this session is read-only`, { path: 'command', hint: 'Start it without --read-only.' });
  }
  if (toolsets !== undefined && !toolsets.includes(tool.toolset)) {
    throw new ClawError('NOT_ALLOWED', `${tool.command} belongs to toolset ${tool.toolset}, and this session has ${toolsets.join(', ')}`, {
      path: 'command',
      hint: `Start it with --toolsets ${[...toolsets, tool.toolset].join(',')}.`,
    });
  }
}

/** Arguments that the interface knows but this release does not are named as such, instead of being called unknown. */
function refuseNotYet(tool: Tool, params: unknown): void {
  if (typeof params !== 'object' || params === null) return;
  for (const [key, hint] of Object.entries(tool.notYet ?? {})) {
    const given: unknown = Reflect.get(params, key);
    if (given !== undefined && given !== false) {
      throw new ClawError('NOT_SUPPORTED', `${tool.command} does not support ${key} yet`, { path: key, hint });
    }
  }
}

function parseInput(tool: Tool, params: unknown): unknown {
  const result = tool.input.safeParse(params ?? {}, { reportInput: true });
  if (result.success) return result.data;
  throw invalidArguments(tool, result.error);
}

/** The first issue as a ClawError with its path in the caller's notation, e.g. `ports[1].port`. */
function invalidArguments(tool: Tool, error: z.ZodError): ClawError {
  const issue = error.issues[0];
  if (issue === undefined) return new ClawError('INVALID_ARGUMENT', 'the arguments are wrong', { cause: error });
  const more = error.issues.length > 1 ? ` (and ${error.issues.length - 1} more)` : '';
  if (issue.code === 'unrecognized_keys') {
    const known = issue.path.length === 0 ? `${tool.command} takes ${Object.keys(tool.input.shape).join(', ')}.` : `See ${tool.command}.`;
    // Zod's path ends at the object that holds the unknown key.
    return new ClawError('INVALID_ARGUMENT', `${issue.keys.join(', ')} is no argument of ${tool.command}${more}`, {
      path: pathText([...issue.path, issue.keys[0] ?? '']),
      hint: known,
      cause: error,
    });
  }
  const path = pathText(issue.path);
  return new ClawError('INVALID_ARGUMENT', `${path === '' ? 'the arguments' : path}: ${wordsOf(issue)}${more}`, {
    ...(path === '' ? {} : { path }),
    hint: `${tool.command} takes ${Object.keys(tool.input.shape).join(', ')}.`,
    cause: error,
  });
}

/** The issue in words, always with the value that was given: zod tells only its type, our own messages often the value itself. */
function wordsOf(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_key') return issue.issues[0]?.message ?? issue.message;
  if (issue.input === undefined) return 'is missing';
  const words = issue.message.replace(/^(Invalid (input|option)|Too (small|big)): /, '');
  const value = JSON.stringify(issue.input) ?? typeof issue.input;
  return words.includes(value) ? words : `${words}, got ${value.length > MAX_SHOWN ? `${value.slice(0, MAX_SHOWN - 3)}...` : value}`;
}

const MAX_SHOWN = 60;

function pathText(path: readonly PropertyKey[]): string {
  return path.map((part, index) => (typeof part === 'number' ? `[${part}]` : `${index === 0 ? '' : '.'}${String(part)}`)).join('');
}
