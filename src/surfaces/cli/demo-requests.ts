/** The demo's HTTP clients: every request is a connection of its own, so that the kernel balances each. They print nothing. */
import { request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';

const REQUEST_TIMEOUT_MS = 5_000;
const PAUSE_MS = 5;

export interface Target {
  readonly url: string;
  /** The Host header, where the URL does not say it. */
  readonly host?: string | undefined;
}

/** One request of a steady stream: when it began (ms since the epoch), how long it took, and who answered or what failed. */
export const sample = z.object({ at: z.number(), tookMs: z.number(), who: z.string().optional(), error: z.string().optional() });
export type Sample = z.infer<typeof sample>;

/** How many requests each server answered, and why others failed. */
export const spread = z.object({ answers: z.record(z.string(), z.int()), failures: z.array(z.string()), durationMs: z.number() });
export type Spread = z.infer<typeof spread>;

/** The body of a 200 answer. Throws on any other status, on a broken connection and after 5 s. */
export function ask({ url, host }: Target, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, {
      agent: false,
      signal: AbortSignal.any([signal, AbortSignal.timeout(REQUEST_TIMEOUT_MS)]),
      headers: host === undefined ? {} : { host },
    });
    outgoing.on('error', reject);
    outgoing.on('response', (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => (body += text));
      response.on('error', reject);
      response.on('end', () => (response.statusCode === 200 ? resolve(body) : reject(new Error(`status ${response.statusCode}`))));
    });
    outgoing.end();
  });
}

/** Sends `count` requests from `parallel` clients. Failures are counted, not thrown. */
export async function burst(target: Target, { count, parallel }: { count: number; parallel: number }, signal: AbortSignal): Promise<Spread> {
  const startedAt = performance.now();
  const answers: Record<string, number> = {};
  const failures: string[] = [];
  let left = count;
  const client = async (): Promise<void> => {
    while (left-- > 0) {
      const { who, error } = await askTimed(target, signal);
      signal.throwIfAborted();
      if (who === undefined) failures.push(error ?? 'unknown');
      else answers[who] = (answers[who] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: parallel }, client));
  return { answers, failures, durationMs: performance.now() - startedAt };
}

/** Two clients that ask again and again, with a breath in between, until the signal aborts. */
export async function steady(target: Target, onSample: (result: Sample) => void, signal: AbortSignal): Promise<void> {
  const client = async (): Promise<void> => {
    while (!signal.aborted) {
      const result = await askTimed(target, signal);
      if (signal.aborted) return;
      onSample(result);
      await sleep(PAUSE_MS);
    }
  };
  await Promise.all([client(), client()]);
}

async function askTimed(target: Target, signal: AbortSignal): Promise<Sample> {
  const at = Date.now();
  const startedAt = performance.now();
  try {
    return { at, who: await ask(target, signal), tookMs: performance.now() - startedAt };
  } catch (error) {
    const reason = error instanceof Error ? ('code' in error ? String(error.code) : error.message) : String(error);
    return { at, error: reason, tookMs: performance.now() - startedAt };
  }
}
