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
const CALL_TIMEOUT_MS = 5000;

const health = z.object({ pid: z.int(), version: z.int().nullable() });
type Health = z.infer<typeof health>;
const applied = z.object({ version: z.int(), refused: z.array(z.object({ reason: z.string() })) });

export function createIngressProxy(options: IngressProxyOptions): IngressProxy {
  const { controlSocket, port, logger } = options;
  const client = new Client('http://proxy', { socketPath: controlSocket, headersTimeout: CALL_TIMEOUT_MS, connectTimeout: CALL_TIMEOUT_MS });
  const ended = new AbortController();
  /** What the running proxy has acknowledged. */
  let served: { readonly pid: number; readonly version: number; readonly routes: string } | undefined;
  let failure: string | undefined;
  let retired = false;
  let watching: Promise<void> | undefined;

  const call = async (method: 'GET' | 'PUT', path: string, body?: string): Promise<unknown> => {
    const answer = await client.request({ method, path, ...(body === undefined ? {} : { body }) });
    const text = await answer.body.text();
    if (answer.statusCode !== 200) throw new ClawError('PROCESS_FAILED', `the ingress proxy answered ${answer.statusCode}: ${text.slice(0, 200)}`);
    return JSON.parse(text);
  };

  const ask = async (): Promise<Health | undefined> => {
    try {
      return health.parse(await call('GET', '/v1/health'));
    } catch (error) {
      // Nobody listens: there is no proxy. Anything else is one that does not do its work.
      if (error instanceof Error && 'code' in error && (error.code === 'ECONNREFUSED' || error.code === 'ENOENT')) return undefined;
      throw error;
    }
  };

  const ensure = async (signal: AbortSignal): Promise<Health> => {
    if (!retired) await options.retireOutdated();
    retired = true;
    const running = await ask();
    if (running !== undefined) return running;
    const deadline = AbortSignal.timeout(START_TIMEOUT_MS);
    await options.start();
    while (!deadline.aborted) {
      const started = await ask();
      if (started !== undefined) return started;
      const words = await options.lastWords();
      if (words !== undefined) throw new ClawError('PROCESS_FAILED', `the ingress proxy does not run: ${words}`);
      await delay(START_POLL_MS, undefined, { signal });
      // One that was being killed while it was looked at may have counted as running.
      await options.start();
    }
    throw new ClawError('TIMEOUT', `the ingress proxy did not answer within ${START_TIMEOUT_MS} ms`);
  };

  /** A proxy that dies is noticed here, so that it is started again although no route changes. */
  const watch = async (): Promise<void> => {
    while (!ended.signal.aborted) {
      await delay(WATCH_MS, undefined, { signal: ended.signal });
      if (served === undefined) continue;
      const running = await ask().catch(() => undefined);
      if (running?.pid === served.pid) continue;
      logger.warn({ pid: served.pid }, 'the ingress proxy is gone');
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
        const { refused } = applied.parse(await call('PUT', '/v1/routes', `{"version":${next},"routes":${text}}`));
        for (const { reason } of refused) logger.error({ reason }, 'the ingress proxy refused a route');
        served = { pid, version: next, routes: text };
        failure = undefined;
      } catch (error) {
        served = undefined;
        failure = error instanceof Error ? error.message : String(error);
        throw error;
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
