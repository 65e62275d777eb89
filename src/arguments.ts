/** Takes in the arguments of a call: what the tool's schema makes of them, or the error that says what is wrong. It runs nothing. */
import type { Tool } from '../tools/define.ts';
import { invalidArguments } from './argument-errors.ts';
import { withoutLaterArguments } from './not-built.ts';

/** Throws INVALID_ARGUMENT with path and hint, or NOT_SUPPORTED for an argument that comes later. */
export function parseInput(tool: Tool, params: unknown): unknown {
  const result = tool.input.safeParse(withoutLaterArguments(tool, params) ?? {}, { reportInput: true });
  if (result.success) return result.data;
  throw invalidArguments(tool, result.error);
}
