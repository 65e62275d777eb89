/** Runs the command line as a process of its own, the way a person or a script does. */
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { start, type Argv } from '../../src/drivers/exec.ts';
import { checkout } from './sandbox-fixture.ts';

export const launcher = join(checkout, 'bin', 'clawnode.js');

export interface Outcome {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ProcessOptions {
  readonly input?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/** `clawnode ARGS...` to its end. */
export function clawnode(args: readonly string[], options: ProcessOptions = {}): Promise<Outcome> {
  return runProcess([process.execPath, launcher, ...args], options);
}

export async function runProcess(argv: Argv, { input = '', env = {}, cwd = checkout }: ProcessOptions = {}): Promise<Outcome> {
  const child = start(argv, { stdio: ['pipe', 'pipe', 'pipe'], cwd, env: { ...process.env, ...env } });
  child.stdin?.on('error', () => undefined);
  child.stdin?.end(input);
  const [[exitCode, signal], stdout, stderr] = await Promise.all([
    once(child, 'close'),
    child.stdout === null ? '' : text(child.stdout),
    child.stderr === null ? '' : text(child.stderr),
  ]);
  return { exitCode, signal, stdout, stderr };
}
