/** Programs from the npm registry that tests run and the product never needs: each in a directory of its own in a cache, at one version. */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { start, type Argv } from '../../src/drivers/exec.ts';

const INSTALL_TIMEOUT_MS = 10 * 60_000;

export interface Outcome {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CachedPackage {
  readonly name: string;
  /** The exact one. */
  readonly version: string;
  /** What is not known when it cannot be had. */
  readonly without: string;
}

/** The directory that holds the package below node_modules, installed there if it is not yet. Throws, loudly, when it cannot be had. */
export async function installedPackage({ name, version, without }: CachedPackage): Promise<string> {
  const cache = process.env['CLAWNODE_TEST_CACHE'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'clawnode-tests');
  const directory = join(cache, `${name.replace(/^@/, '').replace('/', '-')}-${version}`);
  if (existsSync(directory)) return directory;
  await mkdir(cache, { recursive: true });
  // What stands under the final name is whole, however this ends and whoever else installs at the same time.
  const fresh = await mkdtemp(`${directory}.`);
  try {
    await writeFile(join(fresh, 'package.json'), '{ "private": true }\n');
    const install: Argv = ['npm', 'install', '--ignore-scripts', '--no-audit', '--no-fund', '--save-exact', `${name}@${version}`];
    const { exitCode, stderr } = await runToEnd(install, { env: npmEnvironment(), cwd: fresh, timeoutMs: INSTALL_TIMEOUT_MS });
    if (exitCode !== 0) throw new Error(`${name.toUpperCase()} CANNOT BE HAD, so ${without}: npm install ${name}@${version} says ${stderr}`);
    await rename(fresh, directory).catch((error: unknown) => {
      if (!existsSync(directory)) throw error;
    });
    return directory;
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
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
