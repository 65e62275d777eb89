/** The prompts of a session: which are listed, and one of them with the caller's own names filled in. Pure; it calls nothing. */
import { z } from 'zod';
import { invalid, type Prompt } from './mcp-prompt.ts';
import { isolateDatabase, lockDownDatabase } from './mcp-prompts-database.ts';
import { apiGateway, exposeWebService } from './mcp-prompts-web.ts';
import { toolsInScope, type ToolScope } from './tool-scope.ts';

/** Prompts whose tools are all in scope: one that could not be followed would only mislead. */
export function listPrompts(scope: ToolScope) {
  return promptsInScope(scope).map(({ name: promptName, title, description, args }) => ({
    name: promptName,
    title,
    description,
    arguments: Object.entries(args.shape).map(([key, field]) => ({
      name: key,
      description: z.toJSONSchema(field, { io: 'input', unrepresentable: 'any' }).description ?? key,
      required: !field.safeParse(undefined).success,
    })),
  }));
}

export interface PromptCall {
  readonly name: string;
  readonly arguments?: Record<string, string> | undefined;
}

/** A type and no interface, so that it fits the index signatures of the protocol's results. */
export type PromptResult = {
  description: string;
  messages: { role: 'user'; content: { type: 'text'; text: string } }[];
};

/** Throws McpFailure invalidParams for a prompt that is not listed and for a wrong argument, which it names. */
export function getPrompt(scope: ToolScope, { name: wanted, arguments: given = {} }: PromptCall): PromptResult {
  const listed = toolNames(scope);
  const prompts = promptsInScope(scope);
  const prompt = prompts.find((candidate) => candidate.name === wanted);
  if (prompt === undefined) {
    throw invalid(`there is no prompt ${JSON.stringify(wanted.slice(0, 60))} in this session; there is: ${prompts.map((known) => known.name).join(', ') || 'none'}`);
  }
  return { description: prompt.description, messages: [{ role: 'user', content: { type: 'text', text: prompt.text(given, (tool) => listed.has(tool)) } }] };
}

const PROMPTS: readonly Prompt[] = [exposeWebService, apiGateway, isolateDatabase, lockDownDatabase];

function promptsInScope(scope: ToolScope): Prompt[] {
  const listed = toolNames(scope);
  return PROMPTS.filter(({ needs }) => needs.every((tool) => listed.has(tool)));
}

function toolNames(scope: ToolScope): ReadonlySet<string> {
  return new Set(toolsInScope(scope).map(({ toolName }) => toolName));
}
