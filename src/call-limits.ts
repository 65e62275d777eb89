/** What one session may call at most, told by the surface that opened it: read as strictly as a command, and held against each tool. Pure. */
import { z } from 'zod';
import type { Tool } from '../tools/define.ts';
import { ClawError } from './errors.ts';

/** A surface may narrow what its own session can do, never widen it. Absent: no limit. */
export const callLimits = z.object({
  /** Only tools that change nothing. */
  readOnly: z.boolean().optional(),
  /** Only tools that read or add: none that removes, stops or overwrites. */
  noDestructive: z.boolean().optional(),
  /** Only tools of these toolsets; `default` and `all` are toolsets as well, and an unknown one has no tools. */
  toolsets: z.array(z.string()).readonly().optional(),
});
export type CallLimits = Readonly<z.output<typeof callLimits>>;

/** Whether the tool removes, stops or overwrites something: the `destructiveHint` of MCP. */
export function isDestructive({ effect }: Pick<Tool, 'effect'>): boolean {
  return effect === 'replace' || effect === 'destroy';
}

/** Whether the tool is within the limits. */
export function isWithin(limits: CallLimits, tool: Tool): boolean {
  return refusals(limits, tool).length === 0;
}

/** Throws NOT_ALLOWED for a tool beyond the limits. */
export function requireWithin(limits: CallLimits, tool: Tool): void {
  const reasons = refusals(limits, tool);
  if (reasons.length === 0) return;
  throw new ClawError('NOT_ALLOWED', `${tool.command} ${reasons.map(({ message }) => message).join(', and it ')}`, {
    path: 'command',
    hint: `The operator has limited this session, and can start it ${reasons.map(({ remedy }) => remedy).join(' and ')}: tell the person if you need it.`,
  });
}

/** Whether one of the toolsets has the tool. */
export function isInToolsets(toolsets: readonly string[], { toolset, inDefault }: Pick<Tool, 'toolset' | 'inDefault'>): boolean {
  return toolsets.includes('all') || toolsets.includes(toolset) || (inDefault === true && toolsets.includes('default'));
}

interface Refusal {
  readonly message: string;
  /** How the session would have to be started to have the tool. */
  readonly remedy: string;
}

function refusals({ readOnly = false, noDestructive = false, toolsets }: CallLimits, tool: Tool): Refusal[] {
  const found: Refusal[] = [];
  if (readOnly && tool.effect !== 'read') found.push({ message: 'changes something, while this session is read-only', remedy: 'without --read-only' });
  if (noDestructive && isDestructive(tool)) {
    const does = tool.effect === 'replace' ? 'overwrites what is there' : 'removes or stops something';
    found.push({ message: `${does}, while this session only reads and adds`, remedy: 'without --no-destructive' });
  }
  if (toolsets !== undefined && !isInToolsets(toolsets, tool)) {
    const wider = [...toolsets, tool.toolset].join(',');
    found.push({ message: `belongs to toolset ${tool.toolset}, while this session has ${toolsets.join(', ') || 'none'}`, remedy: `with --toolsets ${wider}` });
  }
  return found;
}
