/** How large a process's command and environment may be: what Linux takes, less what is needed on the way; imports nothing local. */

/** Linux takes no longer argument or `NAME=VALUE`, with its NUL (MAX_ARG_STRLEN); the rest is left to the names that they have on the way. */
const MOST_STRING_BYTES = 131_072 - 32;
/** Linux takes 2 MiB of arguments and environment in all where the stack has its usual size; some of it is needed on the way. */
const MOST_BYTES = 1_900_000;
/** Each string has a NUL and a pointer. */
const BYTES_BESIDE = 9;
/** All names travel in one argument, each with some more characters, so these are bounded too. */
const MOST_VARIABLES = 1000;
const MOST_NAME_CHARACTERS = 100;

export interface ProcessProblem {
  readonly path: 'command' | 'env';
  readonly message: string;
}

/** Why a process can not be given these; undefined when it can. Values of variables are never repeated. */
export function processProblem(command: readonly string[], env: Readonly<Record<string, string>>): ProcessProblem | undefined {
  const variables = Object.entries(env);
  const wrong = environmentProblem(variables);
  if (wrong !== undefined) return { path: 'env', message: wrong };
  const given = command.map((argument) => Buffer.byteLength(argument));
  const tooLong = given.findIndex((bytes) => bytes > MOST_STRING_BYTES);
  if (tooLong !== -1) {
    return { path: 'command', message: `argument list too long: argument ${tooLong} has ${given[tooLong] ?? 0} bytes, at most ${MOST_STRING_BYTES} can be given` };
  }
  const all = [...given, ...variables.map(bytesOf)].reduce((sum, bytes) => sum + bytes + BYTES_BESIDE, 0);
  if (all <= MOST_BYTES) return undefined;
  return { path: 'command', message: `argument list too long: command and environment have ${all} bytes, at most ${MOST_BYTES} can be given` };
}

function environmentProblem(variables: readonly (readonly [string, string])[]): string | undefined {
  if (variables.length > MOST_VARIABLES) return `argument list too long: ${variables.length} variables are given, at most ${MOST_VARIABLES} can be`;
  const longName = variables.find(([name]) => name.length > MOST_NAME_CHARACTERS)?.[0];
  if (longName !== undefined) return `the name of a variable has ${longName.length} characters, at most ${MOST_NAME_CHARACTERS} can be given`;
  const long = variables.find((variable) => bytesOf(variable) > MOST_STRING_BYTES);
  return long === undefined ? undefined : `argument list too long: ${long[0]} has ${bytesOf(long)} bytes with its value, at most ${MOST_STRING_BYTES} can be given`;
}

function bytesOf([name, value]: readonly [string, string]): number {
  return Buffer.byteLength(name) + 1 + Buffer.byteLength(value);
}
