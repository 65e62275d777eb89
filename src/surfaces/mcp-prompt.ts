/** What a prompt is made of: its arguments, the tools it needs, and steps that name calls as they are made. Pure. */
import { z } from 'zod';
import { port } from '../model/address.ts';
import { McpFailure, RPC } from './mcp-failure.ts';

export interface Prompt {
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly args: z.ZodObject;
  /** The tools without which it could not be followed. */
  readonly needs: readonly string[];
  /** `has` tells whether a tool is listed, so that no other is named. Throws McpFailure invalidParams for a wrong argument. */
  readonly text: (given: Record<string, string>, has: HasTool) => string;
}

type HasTool = (tool: string) => boolean;

interface PromptDefinition<Args extends z.ZodObject> extends Omit<Prompt, 'args' | 'text'> {
  readonly args: Args;
  readonly text: (args: z.output<Args>, has: HasTool) => string;
}

export function definePrompt<Args extends z.ZodObject>(definition: PromptDefinition<Args>): Prompt {
  return { ...definition, text: (given, has) => definition.text(parseArguments(definition.args, given), has) };
}

/** Prompt arguments are always texts. */
export const number = z.string().regex(/^\d+$/, { error: 'a number' }).transform(Number);
export const portNumber = number.pipe(port);
export const commaList = z.string().transform((text) => text.split(',').map((part) => part.trim()));

export function invalid(message: string): McpFailure {
  return new McpFailure(RPC.invalidParams, message);
}

export function steps(task: string, lines: readonly string[]): string {
  const after = ['Where an answer says `enforced: false`, tell me its reason instead of calling the work done.', 'When a call fails, do what its hint says.'];
  return [task, '', ...lines, ...after].join('\n');
}

export function call(tool: string, params: Readonly<Record<string, unknown>>): string {
  return `- ${inline(tool, params)}`;
}

export function inline(tool: string, params: Readonly<Record<string, unknown>>): string {
  return `${tool} ${JSON.stringify(params)}`;
}

function parseArguments<Args extends z.ZodObject>(args: Args, given: Record<string, string>): z.output<Args> {
  // Hosts send the empty text for a field that a person left empty.
  const filled = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== ''));
  const parsed = args.safeParse(filled);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const missing = Object.keys(args.shape).find((key) => key === issue?.path[0] && !Object.hasOwn(filled, key));
  throw invalid(missing === undefined ? `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'wrong'}` : `${missing} is missing`);
}
