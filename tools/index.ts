/** The one registry: MCP, the command line and the docs are made from this list. */
import type { Tool } from './define.ts';
import { flowTools } from './flows.ts';
import { ingressTools } from './ingress.ts';
import { manifestTools } from './manifest.ts';
import { namespaceTools } from './namespace.ts';
import { networkTools } from './network.ts';
import { policyTools } from './policy.ts';
import { reachTools } from './reach.ts';
import { serviceTools } from './service.ts';
import { workloadTools } from './workload.ts';

export const tools: readonly Tool[] = [...serviceTools, ...ingressTools, ...policyTools, ...workloadTools, ...namespaceTools, ...networkTools, ...reachTools, ...manifestTools, ...flowTools];

const byName: ReadonlyMap<string, Tool> = new Map(tools.flatMap((tool) => [[tool.command, tool] as const, [tool.toolName, tool] as const]));

/** The tool of a dotted id (`service.create`) or tool name (`service_create`). */
export function findTool(commandOrToolName: string): Tool | undefined {
  return byName.get(commandOrToolName);
}
