/** Which tools a server shows and allows. What is hidden is refused as well, since a client can call what it never saw listed. */
import type { Tool, Toolset } from '../../tools/define.ts';
import { findTool, tools } from '../../tools/index.ts';
import { ClawError } from '../errors.ts';
import { plainText } from './outside-text.ts';

export interface ToolScope {
  /** Only tools that change nothing. */
  readonly readOnly?: boolean;
  /** Only these groups; all when absent. */
  readonly toolsets?: readonly Toolset[];
}

/** The tools in scope, in the order of the registry. */
export function toolsInScope(scope: ToolScope): Tool[] {
  return tools.filter((tool) => refusal(tool, scope) === undefined);
}

/** Throws UNKNOWN_COMMAND or NOT_ALLOWED. Besides the listed name, the dotted id of a command is understood. */
export function allowedTool(name: string, scope: ToolScope): Tool {
  const tool = findTool(name);
  if (tool === undefined) throw unknownTool(name, scope);
  const refused = refusal(tool, scope);
  if (refused !== undefined) throw refused;
  return tool;
}

function refusal(tool: Tool, { readOnly = false, toolsets }: ToolScope): ClawError | undefined {
  if (readOnly && tool.effect !== 'read') {
    return new ClawError('NOT_ALLOWED', `${tool.command} changes something, and this server only reads`, {
      path: 'tool',
      hint: 'Ask the operator to start `clawnode mcp` without --read-only.',
    });
  }
  if (toolsets !== undefined && !toolsets.includes(tool.toolset)) {
    return new ClawError('NOT_ALLOWED', `${tool.command} belongs to the toolset ${tool.toolset}, and this server offers ${toolsets.join(', ')}`, {
      path: 'tool',
      hint: `Ask the operator to start \`clawnode mcp\` with --toolsets ${[...toolsets, tool.toolset].join(',')}.`,
    });
  }
  return undefined;
}

function unknownTool(name: string, scope: ToolScope): ClawError {
  const shown = plainText(name, 60);
  const [noun = ''] = name.split(/[._]/, 1);
  const offered = toolsInScope(scope).map(({ toolName }) => toolName);
  const related = offered.filter((candidate) => candidate.startsWith(`${noun}_`));
  return new ClawError('UNKNOWN_COMMAND', `there is no tool ${JSON.stringify(shown)}`, {
    path: 'tool',
    hint: `Use one of ${(related.length > 0 ? related : offered).join(', ')}.`,
  });
}
