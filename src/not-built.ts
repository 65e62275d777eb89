/** What the interface has and this release has not: refused by name, so that nobody takes it for a misspelling. */
import type { Tool } from '../tools/define.ts';
import { ClawError } from './errors.ts';

/** Commands of the interface that this release does not have, and what a caller should know about that. */
const NOT_BUILT: readonly (readonly [prefix: string, hint: string])[] = [
  ['mesh.', 'This release serves one node.'],
  ['node.', 'This release serves one node.'],
];
const TOOLSETS_LATER = new Set(['mesh']);
const BUILT_LATER = new Set(['mesh.invite', 'mesh.rotate_key', 'node.list', 'node.remove']);

/** Throws NOT_SUPPORTED when the command, dotted or as a tool name, is one that comes later. */
export function refuseLaterCommand(command: string): void {
  const later = [...BUILT_LATER].find((candidate) => candidate === command || candidate.replaceAll('.', '_') === command);
  if (later === undefined) return;
  const hint = NOT_BUILT.find(([prefix]) => later.startsWith(prefix))?.[1] ?? '';
  throw new ClawError('NOT_SUPPORTED', `${later} is not built yet`, { path: 'command', hint });
}

/** Throws NOT_SUPPORTED when the toolset is one that comes later. */
export function refuseLaterToolset(toolset: string): void {
  if (!TOOLSETS_LATER.has(toolset)) return;
  throw new ClawError('NOT_SUPPORTED', `the toolset ${toolset} is not built yet`, { path: 'toolsets', hint: 'This release serves one node. Leave it out.' });
}

/** The arguments without those that come later and were declined (`dryRun: false`). Throws NOT_SUPPORTED for one that was asked for. */
export function withoutLaterArguments(tool: Tool, params: unknown): unknown {
  if (typeof params !== 'object' || params === null || Array.isArray(params)) return params;
  const later = tool.notYet ?? {};
  const given = Object.entries(params);
  const asked = given.find(([key, value]) => Object.hasOwn(later, key) && value !== false && value !== undefined && value !== null);
  if (asked !== undefined) {
    const [key] = asked;
    throw new ClawError('NOT_SUPPORTED', `${tool.command} does not support ${key} yet`, { path: key, hint: later[key] ?? '' });
  }
  return given.some(([key]) => Object.hasOwn(later, key)) ? Object.fromEntries(given.filter(([key]) => !Object.hasOwn(later, key))) : params;
}
