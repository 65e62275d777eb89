/** Arguments in and errors out, the same way for every subcommand; it runs no command. */
import { parseArgs, type ParseArgsConfig } from 'node:util';
import { ClawError, toClawError } from '../../errors.ts';

/** What a subcommand is to `main`. `run` gives the exit code. */
export interface Subcommand {
  readonly help: string;
  /** Where its arguments ask for more than `help`; they still hold `--help`. */
  readonly detailedHelp?: (argv: readonly string[]) => Promise<string>;
  readonly run: (argv: string[]) => Promise<number>;
}

/** Arguments that a subcommand does not take: said in one line with a pointer to `--help`, exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** `parseArgs` of node:util, strict, whose complaints are usage errors. */
export function parseArguments<Config extends ParseArgsConfig>(config: Config): ReturnType<typeof parseArgs<Config>> {
  try {
    return parseArgs(config);
  } catch (error) {
    if (error instanceof TypeError) throw new UsageError(error.message.split('. ')[0] ?? error.message, { cause: error });
    throw error;
  }
}

/** An error for people: message and code on one line, the hint below. With `verbose`, a defect also shows its stack. */
export function errorText(thrown: unknown, { verbose }: { verbose: boolean }): string {
  const error = toClawError(thrown);
  const place = error.path === undefined ? '' : ` at ${error.path}`;
  const hint = error.hint === undefined ? '' : `\n  ${error.hint}`;
  const stack = verbose && !(thrown instanceof ClawError) && thrown instanceof Error ? `\n${thrown.stack ?? ''}` : '';
  return `clawnode: ${error.message} (${error.code}${place})${hint}${stack}\n`;
}
