/** The real OpenClaw host for tests: its package in a cache of its own, and each use of it in a home that is thrown away. */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
import type { Argv } from '../../src/drivers/exec.ts';
import { installedPackage, npmEnvironment, runToEnd, type Outcome } from './npm-cache.ts';

export { npmEnvironment, runToEnd, type Outcome };

/** The version that the surface is held against. */
const VERSION = '2026.9.6';
const COMMAND_TIMEOUT_MS = 3 * 60_000;
/** Where the host writes whatever HOME and TMPDIR say; removed only when they were not there before us. */
const STRAYS = ['/tmp/openclaw', `/tmp/openclaw-state-locks-${process.getuid?.() ?? 0}`];

export interface CommandOptions {
  /** Directories before the others on the PATH. */
  readonly path?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export interface OpenClawHost {
  readonly home: string;
  /** The node_modules that hold the host's package. */
  readonly modules: string;
  /** The argv of `openclaw ARGS...`, to be started with `env`. */
  readonly argv: (args: readonly string[]) => Argv;
  readonly env: (options?: CommandOptions) => Record<string, string>;
  /** `openclaw ARGS...` to its end. The host's exit codes say little, so they are the caller's to judge. */
  readonly run: (args: readonly string[], options?: CommandOptions) => Promise<Outcome>;
  /** What `openclaw ARGS... --json` prints. Throws when that is not JSON. */
  readonly json: (args: readonly string[], options?: CommandOptions) => Promise<unknown>;
  readonly close: () => Promise<void>;
}

/** A host with an empty home. The first use on a machine downloads some 650 MB from the npm registry and keeps them. */
export async function openHost(): Promise<OpenClawHost> {
  const modules = join(await installedPackage({ name: 'openclaw', version: VERSION, without: 'nothing is known of the plugin' }), 'node_modules');
  const program = join(modules, 'openclaw', 'openclaw.mjs');
  // A socket's path holds 107 bytes at most, and the sandbox puts one below TMPDIR.
  const home = await mkdtemp('/tmp/claw-openclaw-');
  await mkdir(join(home, 'tmp'));
  const strays = STRAYS.filter((path) => !existsSync(path));
  const argv = (args: readonly string[]): Argv => [process.execPath, program, ...args];
  const env = ({ path = [], env: more = {} }: CommandOptions = {}): Record<string, string> => ({
    ...npmEnvironment(),
    HOME: home,
    TMPDIR: join(home, 'tmp'),
    PATH: [...path, dirname(process.execPath), ...pathWithoutClawnode()].join(delimiter),
    OPENCLAW_NO_AUTO_UPDATE: '1',
    NO_COLOR: '1',
    ...more,
  });
  const run: OpenClawHost['run'] = (args, options) => runToEnd(argv(args), { env: env(options), timeoutMs: COMMAND_TIMEOUT_MS });
  const json: OpenClawHost['json'] = async (args, options) => {
    const outcome = await run([...args, '--json'], options);
    try {
      return JSON.parse(outcome.stdout);
    } catch (error) {
      throw new Error(`openclaw ${args.join(' ')} printed no JSON: ${JSON.stringify(outcome)}`, { cause: error });
    }
  };
  const close = async (): Promise<void> => {
    for (const path of [home, ...strays]) await rm(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  };
  return { home, modules, argv, env, run, json, close };
}

/** A linked `clawnode` on this machine would make the skill eligible without ours. */
function pathWithoutClawnode(): string[] {
  return (process.env['PATH'] ?? '').split(delimiter).filter((directory) => !existsSync(join(directory, 'clawnode')));
}
