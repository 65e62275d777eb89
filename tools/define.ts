/** How a command is declared: its name, schemas, annotations and the one manager call behind it. Free of any host's types. */
import { z } from 'zod';
import type { Managers } from '../src/managers/managers.ts';

export type Effect =
  /** Changes nothing. */
  | 'read'
  /** Only adds: what was there stays as it was. */
  | 'write'
  /** Overwrites what was there: through it, what worked may stop working. */
  | 'replace'
  /** Removes or stops something. */
  | 'destroy';

export const TOOLSETS = ['services', 'ingress', 'policy', 'workloads', 'namespaces', 'network'] as const;
export type Toolset = (typeof TOOLSETS)[number];

/** What a session may name beside the groups: the tools of the usual tasks, from several groups, and every tool. */
export const TOOLSET_CHOICES = ['default', 'all', ...TOOLSETS] as const;
export type ToolsetChoice = (typeof TOOLSET_CHOICES)[number];

/**
 * What a handler answers. With a `revision` the door adds whether that is programmed: after a mutation it waits for it,
 * after a read it only looks. `notEnforced` says why the answer can not be enforced at all.
 */
export interface Handled<Answer> {
  readonly answer: Answer;
  readonly revision?: number;
  readonly notEnforced?: string;
  /** It is in force only once the ingress proxy serves it as well. */
  readonly served?: true;
}

/** Whether the kernel holds what the answer says; `reason` says why it does not. */
export const enforcement = {
  enforced: z.boolean().describe('Whether the kernel holds it now'),
  reason: z.string().optional().describe('Why it is not enforced'),
};

export interface ToolDefinition<Input extends z.ZodObject, Output extends z.ZodObject> {
  /** The dotted id, e.g. `service.create`. */
  readonly command: string;
  readonly title: string;
  /** One line that lets a model choose right. */
  readonly description: string;
  readonly toolset: Toolset;
  /** Whether the toolset `default` has it too, which `clawnode mcp` serves unless told otherwise. */
  readonly inDefault?: true;
  readonly effect: Effect;
  /** Whether calling twice with the same arguments changes nothing more. */
  readonly idempotent: boolean;
  readonly input: Input;
  readonly output: Output;
  /** Arguments of the interface that are not built yet, by name: giving one is refused with NOT_SUPPORTED and this hint. */
  readonly notYet?: Readonly<Record<string, string>>;
  /** Fields of the answer that hold a whole document of our own making: they are shown with their lines. */
  readonly documents?: readonly string[];
  readonly handle: (managers: Managers, input: z.output<Input>, signal: AbortSignal) => Promise<Handled<Omit<z.input<Output>, 'enforced' | 'reason'>>>;
}

/** A tool as the door and the surfaces see it: arguments unknown until its schema has parsed them. */
export interface Tool extends Omit<ToolDefinition<z.ZodObject, z.ZodObject>, 'handle'> {
  /** The MCP and OpenClaw name: dots as underscores. */
  readonly toolName: string;
  /** Parses, then runs. Throws z.ZodError on bad arguments. */
  readonly run: (managers: Managers, input: unknown, signal: AbortSignal) => Promise<Handled<Record<string, unknown>>>;
}

export function defineTool<Input extends z.ZodObject, Output extends z.ZodObject>(definition: ToolDefinition<Input, Output>): Tool {
  const { handle, ...rest } = definition;
  return {
    ...rest,
    toolName: definition.command.replaceAll('.', '_'),
    run: async (managers, input, signal) => handle(managers, definition.input.parse(input), signal),
  };
}
