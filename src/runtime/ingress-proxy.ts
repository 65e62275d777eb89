/** Keeps the ingress proxy running and feeds it routes; it routes nothing itself and never stops the proxy with the agent. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { Client } from 'undici';
import { z } from 'zod';
import { ClawError } from '../errors.ts';
import type { Route } from '../model/route-snapshot.ts';

export interface IngressProxyOptions {
  readonly controlSocket: string;
  readonly port: number;
  /** Before the first look at a running proxy: ends one that was started with another configuration. */
  readonly retireOutdated: () => Promise<void>;
  /** Starts the process, detached and confined, unless it runs; resolves once it was started, not once it serves. */
  readonly start: () => Promise<void>;
  /** Ends it, hung or not. */
  readonly stop: () => Promise<void>;
  /** Why it ended, in the proxy's own words; undefined while it runs. */
  readonly lastWords: () => Promise<string | undefined>;
  /** Called when the proxy was found dead: it is started again by the next `feed`. */
  readonly onLost: () => void;
  /** Where it is reached from outside, when somebody publishes it. */
  readonly publishedUrl: string | undefined;
  readonly logger: Logger;
}

export interface IngressProxy {
  /** Makes the proxy serve these routes, starting it if it does not run; a proxy that already serves them is left alone. */
  feed(routes: readonly Route[], signal: AbortSignal): Promise<void>;
  status(): { readonly port: number; readonly running: boolean; readonly published?: string; readonly reason?: string };
  /** Stops watching; the proxy goes on. */
  close(): Promise<void>;
}

const WATCH_MS = 250;
const START_TIMEOUT_MS = 10_000;
const START_POLL_MS = 20;
/** A look at its health is answered in a millisecond; a hundred thousand rules take it a second or two. */
const HEALTH_TIMEOUT_MS = 1000;
const FEED_TIMEOUT_MS = 5000;
/** After so many unanswered looks in a row a proxy is taken for hung and replaced. */
const MOST_UNANSWERED = 3;

const health = z.object({ pid: z.int(), version: z.int().nullable(), listening: z.array(z.string()) });
type Health = z.infer<typeof health>;
const applied = z.object({ version: z.int(), refused: z.array(z.object({ reason: z.string() })) });

export function createIngressProxy(options: IngressProxyOptions): IngressProxy {
  const { controlSocket, port, logger } = options;
  const client = new Client('http://proxy', { socketPath: controlSocket, connectTimeout: HEALTH_TIMEOUT_MS });
  const ended = new AbortController();
  /** What the running proxy has acknowledged. */
  let served: { readonly pid: number; readonly version: number; readonly routes: string } | undefined;
  let failure: string | undefined;
  let retired = false;
  let unanswered = 0;
  let watching: Promise<void> | undefined;
  // A proxy that dies breaks the connection that the last look has left open, and is looked for at once.
  let lookNow = (): void => undefined;
  client.on('disconnect', () => lookNow());

  const call = async (request: { method: 'GET' | 'PUT'; path: string; body?: string; timeoutMs: number }, signal: AbortSignal): Promise<unknown> => {
    const { timeoutMs, ...rest } = request;
    const answer = await client.request({ ...rest, headersTimeout: timeoutMs, bodyTimeout: timeoutMs, signal });
    const text = await answer.body.text();
    if (answer.statusCode !== 200) throw new ClawError('PROCESS_FAILED', `the ingress proxy answered ${answer.statusCode}: ${text.slice(0, 200)}`);
    return JSON.parse(text);
  };

  /** Undefined while there is no proxy that serves: nobody listens, it is just ending, or it does not listen for clients yet. */
  const ask = async (signal: AbortSignal): Promise<Health | undefined> => {
    try {
      const answered = health.parse(await call({ method: 'GET', path: '/v1/health', timeoutMs: HEALTH_TIMEOUT_MS }, signal));
      unanswered = 0;
      return answered.listening.length === 0 ? undefined : answered;
    } catch (error) {
      if (isGone(error)) return undefined;
      unanswered += 1;
      throw isTimeout(error) ? new ClawError('TIMEOUT', 'the ingress proxy does not answer') : error;
    }
  };

  const ensure = async (signal: AbortSignal): Promise<Health> => {
    if (!retired) await options.retireOutdated();
    retired = true;
    if (unanswered >= MOST_UNANSWERED) {
      logger.warn('the ingress proxy is hung and is replaced');
      await options.stop();
      unanswered = 0;
    }
    const running = await ask(signal);
    if (running !== undefined) return running;
    const deadline = AbortSignal.timeout(START_TIMEOUT_MS);
    await options.start();
    while (!deadline.aborted) {
      const started = await ask(signal);
      if (started !== undefined) return started;
      const words = await options.lastWords();
      if (words !== undefined) throw new ClawError('PROCESS_FAILED', `the ingress proxy does not run: ${words}`);
      await delay(START_POLL_MS, undefined, { signal });
      // One that was being killed while it was looked at may have counted as running.
      await options.start();
    }
    throw new ClawError('TIMEOUT', `the ingress proxy did not answer within ${START_TIMEOUT_MS} ms`);
  };

  const nextLook = async (): Promise<void> => {
    const broken = new AbortController();
    lookNow = () => broken.abort();
    try {
      await delay(WATCH_MS, undefined, { signal: AbortSignal.any([broken.signal, ended.signal]) });
    } catch (error) {
      if (ended.signal.aborted) throw error;
    }
  };

  /** A proxy that dies is noticed here, so that it is started again although no route changes. */
  const watch = async (): Promise<void> => {
    while (!ended.signal.aborted) {
      await nextLook();
      const watched = served;
      if (watched === undefined) continue;
      const running = await ask(ended.signal).catch(() => undefined);
      // A feed may have gone on meanwhile, and knows more.
      if (served !== watched || running?.pid === watched.pid) continue;
      logger.warn({ pid: watched.pid }, 'the ingress proxy is gone or does not answer');
      served = undefined;
      options.onLost();
    }
  };

  return {
    feed: async (routes, signal) => {
      const text = JSON.stringify(routes);
      if (served?.routes === text) return;
      try {
        const { pid, version } = served ?? (await ensure(signal));
        const next = (version ?? 0) + 1;
        const { refused } = applied.parse(
          await call({ method: 'PUT', path: '/v1/routes', body: `{"version":${next},"routes":${text}}`, timeoutMs: FEED_TIMEOUT_MS }, signal),
        );
        for (const { reason } of refused) logger.error({ reason }, 'the ingress proxy refused a route');
        served = { pid, version: next, routes: text };
        failure = undefined;
      } catch (error) {
        served = undefined;
        const words = isGone(error) ? await options.lastWords() : undefined;
        failure = words === undefined ? reasonOf(error) : `the ingress proxy does not run: ${words}`;
        throw new ClawError('PROCESS_FAILED', failure, { cause: error });
      }
      watching ??= watch().catch((error: unknown) => {
        if (!ended.signal.aborted) logger.error({ err: error }, 'the ingress proxy is no longer watched');
      });
    },
    status: () => ({
      port,
      running: served !== undefined,
      ...(options.publishedUrl === undefined ? {} : { published: options.publishedUrl }),
      ...(failure === undefined ? {} : { reason: failure }),
    }),
    close: async () => {
      ended.abort();
      await watching;
      await client.destroy();
    },
  };
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

function reasonOf(error: unknown): string {
  if (isTimeout(error)) return 'the ingress proxy does not answer';
  return error instanceof Error ? error.message : String(error);
}
