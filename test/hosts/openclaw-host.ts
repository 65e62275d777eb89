/** The real OpenClaw host for tests: its package in a cache of its own, and each use of it in a home that is thrown away. */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { start, type Argv } from '../../src/drivers/exec.ts';

/** The version that the surface is held against. */
const VERSION = '2026.9.6';
const INSTALL_TIMEOUT_MS = 10 * 60_000;
const COMMAND_TIMEOUT_MS = 3 * 60_000;
/** Where the host writes whatever HOME and TMPDIR say; removed only when they were not there before us. */
const STRAYS = ['/tmp/openclaw', `/tmp/openclaw-state-locks-${process.getuid?.() ?? 0}`];

export interface Outcome {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

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
  const modules = join(await installedHost(), 'node_modules');
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

/**
 * An environment in which npm uses this user's registry, cache and settings whatever HOME says, and knows nothing of the
 * npm that may run these tests.
 */
export function npmEnvironment(): Record<string, string> {
  const kept = Object.entries(process.env).flatMap(([name, value]) => (value === undefined || /^(npm_|NODE_TEST_CONTEXT$|CLAWNODE_)/.test(name) ? [] : [[name, value] as const]));
  const { npm_config_registry: registry, npm_config_cache: cache, npm_config_userconfig: settings } = process.env;
  return {
    ...Object.fromEntries(kept),
    npm_config_cache: cache ?? join(homedir(), '.npm'),
    npm_config_userconfig: settings ?? join(homedir(), '.npmrc'),
    ...(registry === undefined ? {} : { npm_config_registry: registry }),
    PATH: [dirname(process.execPath), process.env['PATH'] ?? ''].join(delimiter),
  };
}

/** Runs a program with exactly this environment. Throws when it takes longer than told. */
export async function runToEnd(argv: Argv, { env, cwd, timeoutMs }: { env: Record<string, string>; cwd?: string; timeoutMs: number }): Promise<Outcome> {
  const child = start(argv, { stdio: ['ignore', 'pipe', 'pipe'], env, ...(cwd === undefined ? {} : { cwd }) });
  let late = false;
  const timer = setTimeout(() => (late = child.kill('SIGKILL')), timeoutMs);
  try {
    const [[exitCode], stdout, stderr] = await Promise.all([
      once(child, 'close'),
      child.stdout === null ? '' : text(child.stdout),
      child.stderr === null ? '' : text(child.stderr),
    ]);
    if (late) throw new Error(`${argv.join(' ')} took longer than ${timeoutMs} ms: ${stderr}`);
    return { exitCode, stdout, stderr };
  } finally {
    clearTimeout(timer);
  }
}

/** The directory that holds the host, installed there if it is not yet. Throws, loudly, when it cannot be had. */
async function installedHost(): Promise<string> {
  const cache = process.env['CLAWNODE_TEST_CACHE'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'clawnode-tests');
  const directory = join(cache, `openclaw-${VERSION}`);
  if (existsSync(directory)) return directory;
  await mkdir(cache, { recursive: true });
  // What stands under the final name is whole, however this ends and whoever else installs at the same time.
  const fresh = await mkdtemp(`${directory}.`);
  try {
    await writeFile(join(fresh, 'package.json'), '{ "private": true }\n');
    const install: Argv = ['npm', 'install', '--ignore-scripts', '--no-audit', '--no-fund', '--save-exact', `openclaw@${VERSION}`];
    const { exitCode, stderr } = await runToEnd(install, { env: npmEnvironment(), cwd: fresh, timeoutMs: INSTALL_TIMEOUT_MS });
    if (exitCode !== 0) throw new Error(`THE OPENCLAW HOST CANNOT BE HAD, so nothing is known of the plugin: npm install openclaw@${VERSION} says ${stderr}`);
    await rename(fresh, directory).catch((error: unknown) => {
      if (!existsSync(directory)) throw error;
    });
    return directory;
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
}

/** A linked `clawnode` on this machine would make the skill eligible without ours. */
function pathWithoutClawnode(): string[] {
  return (process.env['PATH'] ?? '').split(delimiter).filter((directory) => !existsSync(join(directory, 'clawnode')));
}
