/**
 * HTTP clients of the end-to-end tests: every request is a connection of its own, so that the kernel balances each. Run as
 * a program it is the client inside a workload: `node fixture-requests.ts '{"host", "port", "parallel", "count"}'` prints a
 * spread, and with `tellEveryMs` instead of `count` one after the other, each of all requests so far.
 */
import { request } from 'node:http';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';

/** Long enough that no pause of a busy machine counts as a failure, short enough that a packet dropped for good does. */
const TIMEOUT_MS = 10_000;

export const target = z.object({ host: z.string(), port: z.int(), hostHeader: z.string().optional() });
export type Target = z.output<typeof target>;

/** How many requests each server answered, by the body it answers with, and how many of the others failed for which reason. */
export const spread = z.object({ answers: z.record(z.string(), z.int()), failures: z.record(z.string(), z.int()) });
export type Spread = z.output<typeof spread>;

/** One request: when it was begun and ended on `performance.now()`'s clock, and who answered or why it failed. */
export interface Sample {
  readonly beganMs: number;
  readonly endedMs: number;
  readonly who?: string;
  readonly failure?: string;
}

/** The body of a 200 answer. Throws on another status, a broken or refused connection, and after 10 s. */
export function ask({ host, port, hostHeader }: Target): Promise<string> {
  return new Promise((resolve, reject) => {
    const headers = hostHeader === undefined ? {} : { host: hostHeader };
    const outgoing = request({ host, port, path: '/', agent: false, headers, signal: AbortSignal.timeout(TIMEOUT_MS) });
    outgoing.on('error', reject);
    outgoing.on('response', (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => (body += text));
      response.on('error', reject);
      response.on('end', () => (response.statusCode === 200 ? resolve(body) : reject(new Error(`status ${response.statusCode}: ${body}`))));
    });
    outgoing.end();
  });
}

/** The same, timed; it never throws. */
export async function sampleOf(to: Target): Promise<Sample> {
  const beganMs = performance.now();
  try {
    const who = await ask(to);
    return { beganMs, endedMs: performance.now(), who };
  } catch (error) {
    return { beganMs, endedMs: performance.now(), failure: failureOf(error) };
  }
}

export async function askMany(to: Target, { count, parallel }: { count: number; parallel: number }): Promise<Spread> {
  const samples: Sample[] = [];
  let left = count;
  const client = async (): Promise<void> => {
    while (left-- > 0) samples.push(await sampleOf(to));
  };
  await Promise.all(Array.from({ length: parallel }, client));
  return spreadOf(samples);
}

export interface Stream {
  /** All so far. */
  readonly samples: readonly Sample[];
  /** Ends the clients and gives every sample, once the last request has ended. */
  stop(): Promise<Sample[]>;
}

/** Clients that ask again and again with a pause in between, until they are stopped. */
export function keepAsking(to: Target, { parallel, pauseMs }: { parallel: number; pauseMs: number }): Stream {
  const samples: Sample[] = [];
  const stopping = new AbortController();
  const client = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      samples.push(await sampleOf(to));
      await delay(pauseMs);
    }
  };
  const clients = Promise.all(Array.from({ length: parallel }, client));
  return {
    samples,
    stop: async () => {
      stopping.abort();
      await clients;
      return samples;
    },
  };
}

export function spreadOf(samples: readonly Sample[]): Spread {
  return { answers: countsOf(samples.map(({ who }) => who)), failures: countsOf(samples.map(({ failure }) => failure)) };
}

function countsOf(keys: readonly (string | undefined)[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const key of keys) if (key !== undefined) counts[key] = (counts[key] ?? 0) + 1;
  return counts;
}

export function failureOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}

if (import.meta.main) {
  const { tellEveryMs, count, parallel, ...to } = z
    .object({ ...target.shape, parallel: z.int(), count: z.int().optional(), tellEveryMs: z.int().optional() })
    .parse(JSON.parse(process.argv[2] ?? ''));
  if (count !== undefined) tell(await askMany(to, { count, parallel }));
  if (tellEveryMs !== undefined) {
    const stream = keepAsking(to, { parallel, pauseMs: 10 });
    setInterval(() => tell(spreadOf(stream.samples)), tellEveryMs);
  }
}

function tell(seen: Spread): void {
  process.stdout.write(`${JSON.stringify(seen)}\n`);
}
