/** Which tools a server shows. Hiding protects nothing: the agent's door refuses what is out of scope, and writes the refusal down. */
import type { Tool, ToolsetChoice } from '../../tools/define.ts';
import { tools } from '../../tools/index.ts';
import { isInToolsets, isWithin } from '../call-limits.ts';

export interface ToolScope {
  /** Only tools that change nothing. */
  readonly readOnly?: boolean;
  /** Only tools that read or add. */
  readonly noDestructive?: boolean;
  /** Only these; all when absent. */
  readonly toolsets?: readonly ToolsetChoice[];
}

/** The tools in scope, in the order of the registry. */
export function toolsInScope(scope: ToolScope): Tool[] {
  return tools.filter((tool) => isWithin(scope, tool));
}

/** The tools that are left out because of the toolsets alone. */
export function toolsOfOtherToolsets({ toolsets, ...scope }: ToolScope): Tool[] {
  return toolsets === undefined ? [] : toolsInScope(scope).filter((tool) => !isInToolsets(toolsets, tool));
}
