/** The demo's view into the sandbox: runs our program and the kernel's tools there and gives what they say. */
import { extname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { z } from 'zod';
import type { Argv } from '../../drivers/exec.ts';
import type { Child, Sandbox } from '../../sandbox/sandbox.ts';
import { DemoFailure } from './demo-failure.ts';
import { sample, spread, steady, type Sample, type Spread, type Target } from './demo-requests.ts';

const INSIDE = join(import.meta.dirname, `demo-inside${extname(import.meta.filename)}`);

/** Requests from a process inside the sandbox, where the ClusterIP exists. */
export async function burstInside(sandbox: Sandbox, url: string, { count, parallel }: { count: number; parallel: number }): Promise<Spread> {
  return spread.parse(JSON.parse(await output(sandbox, inside('burst', url, String(count), String(parallel)))));
}

/** Returns when each URL has answered. Throws DemoFailure after 10 s. */
export async function awaitAnswersInside(sandbox: Sandbox, urls: readonly string[]): Promise<void> {
  await output(sandbox, inside('await-answers', ...urls));
}

/** Kills the workload process whose last argument this is; when, in ms since the epoch. */
export async function killInside(sandbox: Sandbox, lastArgument: string): Promise<{ pid: number; at: number }> {
  return z.object({ pid: z.int(), at: z.number() }).parse(JSON.parse(await output(sandbox, inside('kill', lastArgument))));
}

/** All rules of the sandbox's kernel, one per line. */
export async function rulesInside(sandbox: Sandbox): Promise<string[]> {
  return (await output(sandbox, ['iptables-save'])).split('\n');
}

/** The names of the sandbox's network interfaces. */
export async function interfacesInside(sandbox: Sandbox): Promise<string[]> {
  const links = z.array(z.object({ ifname: z.string() })).parse(JSON.parse(await output(sandbox, ['ip', '-json', 'link', 'show'])));
  return links.map(({ ifname }) => ifname);
}

export interface Stream {
  /** Everything so far. */
  readonly samples: readonly Sample[];
  stop(): Promise<void>;
}

/** A steady stream of requests from inside the sandbox. */
export function streamInside(sandbox: Sandbox, url: string): Stream {
  const child = sandbox.enter(inside('steady', url), ['pipe', 'pipe', 'inherit']);
  const samples: Sample[] = [];
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
  if (child.stdout !== null) createInterface({ input: child.stdout }).on('line', (row) => samples.push(sample.parse(JSON.parse(row))));
  return {
    samples,
    stop: async () => {
      child.stdin?.end();
      await closed;
    },
  };
}

/** The same from outside, through the published ingress. */
export function streamOutside(target: Target): Stream {
  const controller = new AbortController();
  const samples: Sample[] = [];
  const running = steady(target, (result) => samples.push(result), controller.signal);
  return {
    samples,
    stop: async () => {
      controller.abort();
      await running;
    },
  };
}

const OUTPUT_TIMEOUT_MS = 10_000;

function inside(...args: string[]): Argv {
  return [process.execPath, INSIDE, ...args];
}

async function output(sandbox: Sandbox, argv: Argv): Promise<string> {
  const child = sandbox.enter(argv, ['ignore', 'pipe', 'pipe']);
  const timer = setTimeout(() => void child.kill('SIGKILL'), OUTPUT_TIMEOUT_MS);
  try {
    const [exitCode, stdout, stderr] = await Promise.all([exit(child), drained(child.stdout), drained(child.stderr)]);
    if (exitCode === 0) return stdout;
    throw new DemoFailure(`${argv.slice(0, 4).join(' ')} failed inside the sandbox`, {
      expected: `exit code 0 within ${OUTPUT_TIMEOUT_MS / 1_000} s`,
      seen: `exit code ${exitCode ?? 'none: it was killed'}. ${stderr.trim().slice(-600)}`,
    });
  } finally {
    clearTimeout(timer);
  }
}

async function drained(stream: Child['stdout']): Promise<string> {
  return stream === null ? '' : text(stream);
}

function exit(child: Child): Promise<number | null> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
}
