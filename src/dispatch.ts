/** The one door: every surface's call is parsed, authorised, run, waited for and audited here, and nowhere else. */
import type { Logger } from 'pino';
import type { Tool } from '../tools/define.ts';
import { findTool, tools } from '../tools/index.ts';
import { parseInput } from './arguments.ts';
import type { AuditLog } from './audit.ts';
import { requireWithin, type CallLimits } from './call-limits.ts';
import { ClawError, toClawError } from './errors.ts';
import type { Managers } from './managers/managers.ts';
import type { Enforcement } from './model/enforcement.ts';
import { refuseLaterCommand } from './not-built.ts';

export interface Door {
  readonly managers: Managers;
  readonly logger: Logger;
  readonly audit: Pick<AuditLog, 'write'>;
  /** Throws LIMIT_EXCEEDED when changes come too fast. */
  admitChange(): void;
  /** Waits until the revision is programmed, or known not to be. */
  programmed(revision: number, signal: AbortSignal): Promise<Enforcement>;
  /** The same without waiting. */
  isProgrammed(revision: number): Enforcement;
  /** The same for the routes of the ingress proxy. */
  served(revision: number, signal: AbortSignal, withinMs?: number): Promise<Enforcement>;
  isServed(revision: number): Enforcement;
}

export interface Call {
  /** Dotted id or tool name. */
  readonly command: string;
  readonly params: unknown;
  /** Who called, as far as known: for the audit log only, never for a decision. */
  readonly caller: Caller;
  /** What a surface was told to hide is also refused here. */
  readonly limits?: CallLimits;
}

export interface Caller {
  readonly surface: string;
  readonly peer: Promise<string>;
}

/** How much of a caller's own text an error or a log line repeats. */
const MAX_SHOWN = 60;

/** The command's answer. Throws ClawError; then nothing was changed, unless it is CANCELLED: the caller left while the change was being programmed. */
export async function dispatch(door: Door, call: Call, signal: AbortSignal): Promise<Record<string, unknown>> {
  const startedAt = performance.now();
  const record = { command: call.command.slice(0, MAX_SHOWN), params: call.params, caller: call.caller };
  try {
    const tool = requireTool(call.command);
    requireWithin(call.limits ?? {}, tool);
    if (tool.effect !== 'read') door.admitChange();
    const { answer, revision, enforced } = await runTool(door, tool, { params: call.params, signal });
    door.audit.write({ ...record, command: tool.command, effect: tool.effect, durationMs: performance.now() - startedAt, revision, enforced });
    return answer;
  } catch (thrown) {
    const error = toClawError(thrown);
    if (error.code === 'INTERNAL') door.logger.error({ err: thrown, command: record.command }, 'a call met a defect');
    door.audit.write({ ...record, durationMs: performance.now() - startedAt, error });
    throw error;
  }
}

interface ToolCall {
  readonly params: unknown;
  readonly signal: AbortSignal;
}

interface Ran {
  readonly answer: Record<string, unknown>;
  readonly revision?: number | undefined;
  readonly enforced?: boolean;
}

async function runTool(door: Door, tool: Tool, { params, signal }: ToolCall): Promise<Ran> {
  const handled = await tool.run(door.managers, parseInput(tool, params), signal);
  const { answer, revision } = handled;
  if (revision === undefined || !('enforced' in tool.output.shape)) return { answer, revision };
  const known = await enforcementOf(door, tool, { revision, signal, served: handled.served === true });
  const enforcement = bothReasons(handled.notEnforced, known);
  return { answer: { ...answer, ...enforcement }, revision, enforced: enforcement.enforced };
}

/** What can not be enforced at all is told first; that nothing is in force at present may hold for it as well. */
function bothReasons(notEnforced: string | undefined, known: Enforcement): Enforcement {
  if (notEnforced === undefined) return known;
  return { enforced: false, reason: [notEnforced, ...(known.reason === undefined ? [] : [known.reason])].join('; ') };
}

/** So long a change of services or workloads waits for the proxy to follow: it does in a few ms, and if not, the kernel counts. */
const PROXY_FOLLOWS_MS = 300;

/** What an ingress says is in force once the proxy serves it; everything else once the kernel holds it. */
async function enforcementOf(door: Door, tool: Tool, { revision, signal, served }: { revision: number; signal: AbortSignal; served: boolean }): Promise<Enforcement> {
  const ingress = tool.toolset === 'ingress';
  if (tool.effect === 'read') return ingress ? door.isServed(revision) : door.isProgrammed(revision);
  if (ingress) return door.served(revision, signal);
  const [inKernel, byProxy] = await Promise.all([door.programmed(revision, signal), door.served(revision, signal, ...(served ? [] : [PROXY_FOLLOWS_MS]))]);
  return served && inKernel.enforced ? byProxy : inKernel;
}

function requireTool(command: string): Tool {
  const tool = findTool(command);
  if (tool !== undefined) return tool;
  refuseLaterCommand(command);
  const [group] = command.split(/[._]/, 1);
  const near = tools.map((candidate) => candidate.command).filter((candidate) => candidate.startsWith(`${group}.`));
  throw new ClawError('UNKNOWN_COMMAND', `there is no command ${JSON.stringify(command.slice(0, MAX_SHOWN))}`, {
    path: 'command',
    hint: `Commands: ${(near.length > 0 ? near : tools.map((candidate) => candidate.command)).join(', ')}.`,
  });
}
