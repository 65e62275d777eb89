/** The registry as MCP tools, in the protocol's own shapes and without its library: what is listed, and how a call is answered. It parses no arguments. */
import { findTool } from '../../tools/index.ts';
import { toClawError, type ClawError } from '../errors.ts';
import { plainAnswer, plainError } from './plain-answer.ts';
import { renderAnswer } from './render.ts';
import { annotations, inputSchema, outputSchema } from './tool-schema.ts';
import { toolsInScope, type ToolScope } from './tool-scope.ts';

/** Carries out a command: every surface's way to the agent. */
export type Invoke = (command: string, params: unknown, signal: AbortSignal) => Promise<unknown>;

/** What tools/list answers: every tool in scope, in the order of the registry. */
export function listTools(scope: ToolScope) {
  return toolsInScope(scope).map((tool) => ({
    name: tool.toolName,
    title: tool.title,
    description: tool.description,
    inputSchema: inputSchema(tool),
    outputSchema: outputSchema(tool),
    annotations: { ...annotations(tool) },
  }));
}

export interface ToolCall {
  /** The listed name, or the dotted id of the command. */
  readonly name: string;
  readonly arguments?: unknown;
}

/** A type and no interface, so that it fits the index signatures of the protocol's results. */
export type ToolResult = {
  content: { type: 'text'; text: string }[];
  structuredContent?: Record<string, unknown>;
  isError?: true;
};

/** What tools/call answers; a failed command is an answer too. */
export async function callTool(invoke: Invoke, call: ToolCall, signal: AbortSignal): Promise<ToolResult> {
  try {
    const command = findTool(call.name)?.command ?? call.name;
    const answer = plainAnswer(command, await invoke(command, call.arguments ?? {}, signal));
    return { content: [{ type: 'text', text: renderAnswer(command, answer) }], structuredContent: answer };
  } catch (error) {
    return toolError(toClawError(error));
  }
}

/**
 * An error is one text with the error's JSON. It carries no structured content: clients hold that against the tool's
 * output schema even when the call failed, and would throw an error of their own instead of showing ours.
 */
function toolError(error: ClawError): ToolResult {
  return { isError: true, content: [{ type: 'text', text: JSON.stringify(plainError(error)) }] };
}
