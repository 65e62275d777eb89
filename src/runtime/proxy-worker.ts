/** One worker of the ingress proxy as the agent sees it: asks for its health, has it started, gives it routes; it decides nothing for the others. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { Client } from 'undici';
import { z } from 'zod';
import { ClawError } from '../errors.ts';

export interface ProxyWorkerOptions {
  readonly name: string;
  readonly controlSocket: string;
  /** Starts the process, detached and confined, unless it runs; resolves once it was started, not once it serves. */
  readonly start: () => Promise<void>;
  /** Ends it, hung or not; running requests get so long. */
  readonly stop: (graceMs: number) => Promise<void>;
  /** Why it ended, in its own words; undefined while it runs. */
  readonly lastWords: () => Promise<string | undefined>;
}

export interface ProxyHealth {
  readonly pid: number;
  readonly version: number | null;
  readonly listening: readonly string[];
  /** Ready to serve as soon as the other one no longer does. */
  readonly standby: boolean;
}

export interface ProxyWorker {
  readonly name: string;
  /** Undefined while nobody answers: nobody listens or it is just ending. Throws ClawError `TIMEOUT` for one that hangs. */
  look(signal: AbortSignal): Promise<ProxyHealth | undefined>;
  /** Makes it serve this snapshot or stand by with it, starting or replacing it if need be. Gives its pid. Throws ClawError `PROCESS_FAILED` or `TIMEOUT`. */
  serve(snapshot: string, signal: AbortSignal): Promise<number>;
  /** Ends it; the next `serve` starts another one. */
  stop(graceMs: number): Promise<void>;
  /** Whether it served when it was last looked at. */
  isServing(): boolean;
  /** Called when the connection that the last look left open breaks, as it does when the worker dies. */
  onDisconnect(listener: () => void): void;
  lastWords(): Promise<string | undefined>;
  close(): Promise<void>;
}

const START_TIMEOUT_MS = 10_000;
const START_POLL_MS = 20;
/** A look at its health is answered in a millisecond; a hundred thousand rules take it a second or two. */
const HEALTH_TIMEOUT_MS = 1000;
const FEED_TIMEOUT_MS = 5000;
/** After so many unanswered looks in a row it is taken for hung and replaced. */
const MOST_UNANSWERED = 3;

const health = z.object({ pid: z.int(), version: z.int().nullable(), listening: z.array(z.string()), standby: z.boolean() });
const applied = z.object({ version: z.int(), refused: z.array(z.object({ reason: z.string() })) });

export function createProxyWorker(options: ProxyWorkerOptions, logger: Logger): ProxyWorker {
  const { name, controlSocket } = options;
  const client = new Client('http://proxy', { socketPath: controlSocket, connectTimeout: HEALTH_TIMEOUT_MS });
  let unanswered = 0;
  let serving = false;

  const call = async (request: { method: 'GET' | 'PUT'; path: string; body?: string; timeoutMs: number }, signal: AbortSignal): Promise<unknown> => {
    const { timeoutMs, ...rest } = request;
    const answer = await client.request({ ...rest, headersTimeout: timeoutMs, bodyTimeout: timeoutMs, signal });
    const text = await answer.body.text();
    if (answer.statusCode !== 200) throw new ClawError('PROCESS_FAILED', `the ingress proxy answered ${answer.statusCode}: ${text.slice(0, 200)}`);
    return JSON.parse(text);
  };

  const look = async (signal: AbortSignal): Promise<ProxyHealth | undefined> => {
    try {
      const answered = health.parse(await call({ method: 'GET', path: '/v1/health', timeoutMs: HEALTH_TIMEOUT_MS }, signal));
      unanswered = 0;
      serving = answered.listening.length > 0;
      return answered;
    } catch (error) {
      serving = false;
      if (isGone(error)) return undefined;
      unanswered += 1;
      throw isTimeout(error) ? new ClawError('TIMEOUT', 'the ingress proxy does not answer') : error;
    }
  };

  /** Looks until one answers that is as wanted, starting it meanwhile. */
  const lookUntil = async (wanted: (found: ProxyHealth) => boolean, signal: AbortSignal): Promise<ProxyHealth> => {
    const deadline = AbortSignal.timeout(START_TIMEOUT_MS);
    while (!deadline.aborted) {
      const found = await look(signal);
      if (found !== undefined && wanted(found)) return found;
      const words = await options.lastWords();
      if (words !== undefined) throw new ClawError('PROCESS_FAILED', `the ingress proxy does not run: ${words}`);
      await delay(START_POLL_MS, undefined, { signal });
      // One that was being killed while it was looked at may have counted as running.
      if (found === undefined) await options.start();
    }
    throw new ClawError('TIMEOUT', `the ingress proxy did not answer within ${START_TIMEOUT_MS} ms`);
  };

  const serve = async (snapshot: string, signal: AbortSignal): Promise<number> => {
    if (unanswered >= MOST_UNANSWERED) {
      logger.warn({ worker: name }, 'the ingress proxy is hung and is replaced');
      await options.stop(0);
      unanswered = 0;
    }
    if ((await look(signal)) === undefined) {
      await options.start();
      await lookUntil(() => true, signal);
    }
    const { refused } = applied.parse(await call({ method: 'PUT', path: '/v1/routes', body: snapshot, timeoutMs: FEED_TIMEOUT_MS }, signal));
    for (const { reason } of refused) logger.error({ reason }, 'the ingress proxy refused a route');
    // With its first routes it begins to listen, or waits for its turn.
    return (await lookUntil(isReady, signal)).pid;
  };

  return {
    name,
    look,
    serve: async (snapshot, signal) => {
      try {
        return await serve(snapshot, signal);
      } catch (error) {
        const words = isGone(error) ? await options.lastWords() : undefined;
        const reason = isTimeout(error) ? 'the ingress proxy does not answer' : error instanceof Error ? error.message : String(error);
        throw new ClawError('PROCESS_FAILED', words === undefined ? reason : `the ingress proxy does not run: ${words}`, { cause: error });
      }
    },
    stop: options.stop,
    isServing: () => serving,
    onDisconnect: (listener) => void client.on('disconnect', listener),
    lastWords: options.lastWords,
    close: () => client.destroy(),
  };
}

/** Whether it serves, or will when it is needed. */
export function isReady({ listening, standby }: ProxyHealth): boolean {
  return listening.length > 0 || standby;
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}

function isGone(error: unknown): boolean {
  return ['ECONNREFUSED', 'ENOENT', 'ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET'].some((code) => code === codeOf(error));
}

function isTimeout(error: unknown): boolean {
  return ['UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT', 'UND_ERR_CONNECT_TIMEOUT'].some((code) => code === codeOf(error));
}
