/** Which tools a server shows. Hiding protects nothing: the agent's door refuses what is out of scope, and writes the refusal down. */
import type { Tool, Toolset } from '../../tools/define.ts';
import { tools } from '../../tools/index.ts';

export interface ToolScope {
  /** Only tools that change nothing. */
  readonly readOnly?: boolean;
  /** Only these groups; all when absent. */
  readonly toolsets?: readonly Toolset[];
}

/** The tools in scope, in the order of the registry. */
export function toolsInScope({ readOnly = false, toolsets }: ToolScope): Tool[] {
  return tools.filter((tool) => (!readOnly || tool.effect === 'read') && (toolsets === undefined || toolsets.includes(tool.toolset)));
}
