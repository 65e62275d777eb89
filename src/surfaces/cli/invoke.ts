/** `clawnode invoke`: one command to the agent; JSON is all it prints. */
import { performance } from 'node:perf_hooks';
import { text } from 'node:stream/consumers';
import { ClawError, toClawError } from '../../errors.ts';
import { connectUsualAgent } from '../agent-client.ts';
import { parseArguments, UsageError, type Subcommand } from './usage.ts';

export const invoke: Subcommand = {
  help: `Usage: clawnode invoke [--verbose] COMMAND ['JSON' | -]

Runs one command of the agent, for example
  clawnode invoke service.get '{"name":"web"}'
The parameters are one JSON object, read from standard input when given as -, {} when left out.

Prints the answer as JSON on standard output and ends with 0. Any failure, wrong usage too, prints
{"code", "message", "path"?, "hint"?} as JSON on standard error and ends with 1. Nothing else is printed without --verbose.
`,
  detailedHelp: async (argv) => {
    const { commandHelp, commandsHelp } = await import('./invoke-help.ts');
    const command = argv.find((part) => !part.startsWith('-'));
    return command === undefined ? `${invoke.help}\n${commandsHelp()}` : commandHelp(command);
  },
  run: async (argv) => {
    try {
      const { command, params, verbose } = await readArguments(argv);
      const agent = connectUsualAgent({ surface: 'cli' });
      const startedAt = performance.now();
      const answer = await agent.invoke(command, params, new AbortController().signal);
      process.stdout.write(json(answer, process.stdout));
      if (verbose) process.stderr.write(`${command} on ${agent.socketPath} took ${Math.round(performance.now() - startedAt)} ms\n`);
      return 0;
    } catch (thrown) {
      const error = thrown instanceof UsageError ? new ClawError('INVALID_ARGUMENT', thrown.message, { hint: USAGE_HINT }) : toClawError(thrown);
      process.stderr.write(json(error, process.stderr));
      return 1;
    }
  },
};

const USAGE_HINT = "Use: clawnode invoke COMMAND ['JSON' | -]";

interface Arguments {
  readonly command: string;
  readonly params: unknown;
  readonly verbose: boolean;
}

async function readArguments(argv: string[]): Promise<Arguments> {
  const { values, positionals } = parseArguments({ args: argv, allowPositionals: true, options: { verbose: { type: 'boolean', default: false } } });
  const [command, given = '{}', ...tooMany] = positionals;
  if (command === undefined) throw new UsageError('the command is missing');
  if (tooMany.length > 0) throw new UsageError(`${JSON.stringify(tooMany[0])} is one argument too many: the parameters are one JSON object`);
  return { command, params: parseParams(given === '-' ? await text(process.stdin) : given), verbose: values.verbose };
}

function parseParams(given: string): unknown {
  try {
    return JSON.parse(given);
  } catch (error) {
    throw new ClawError('INVALID_ARGUMENT', `the parameters are not JSON: ${error instanceof Error ? error.message : String(error)}`, {
      hint: `Quote them for the shell: clawnode invoke service.get '{"name":"web"}'`,
      cause: error,
    });
  }
}

/** One line for programs, indented for people. */
function json(value: unknown, stream: NodeJS.WriteStream): string {
  return `${JSON.stringify(value, null, stream.isTTY ? 2 : 0)}\n`;
}
