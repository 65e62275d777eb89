/** What `clawnode invoke --help` says of the commands, made from the registry. Loaded for help only, since schemas take time. */
import type { Tool } from '../../../tools/define.ts';
import { findTool, tools } from '../../../tools/index.ts';
import { fieldsOf, type Field } from '../command-fields.ts';
import { table } from './table.ts';
import { UsageError } from './usage.ts';

/** Every command with its one line. */
export function commandsHelp(): string {
  return `Commands:\n${table(tools.map(({ command, description }) => [`  ${command}`, description]))}\n\`clawnode invoke COMMAND --help\` shows its parameters.\n`;
}

/** One command with its parameters. Throws UsageError when there is none of that name. */
export function commandHelp(name: string): string {
  const tool = findTool(name);
  if (tool === undefined) throw new UsageError(`there is no command ${JSON.stringify(name)}`);
  const fields = fieldsOf(tool.input, 'input');
  const parameters = fields.length === 0 ? 'It takes no parameters.\n' : `Parameters, as one JSON object:\n${table(fields.map(parameterRow))}`;
  return `Usage: clawnode invoke ${tool.command}${fields.length === 0 ? '' : " 'JSON'"}\n\n${tool.description}\n\n${parameters}${laterText(tool)}`;
}

function parameterRow({ name, type, required, default: fallback, description }: Field): string[] {
  const presence = required ? 'required' : fallback === undefined ? '' : `default ${JSON.stringify(fallback)}`;
  return [`  ${name}`, type, presence, description];
}

function laterText({ notYet = {} }: Tool): string {
  const names = Object.keys(notYet);
  return names.length === 0 ? '' : `\nRefused for now: ${names.join(', ')}.\n`;
}
