/** Keeps the workers of the ingress proxy running and feeds them routes; it routes nothing itself and never stops them with the agent. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { ClawError } from '../errors.ts';
import type { Route } from '../model/route-snapshot.ts';
import { isReady, type ProxyWorker } from './proxy-worker.ts';
import { snapshotText, type RouteFile } from './route-file.ts';

export interface IngressProxyOptions {
  /** All have the same sockets. One serves and another stands by, so that it is there when the first dies. */
  readonly workers: readonly ProxyWorker[];
  readonly routeFile: RouteFile;
  readonly port: number;
  /** Before the first look at running workers: the names of those that were started with another configuration. */
  readonly findOutdated: () => Promise<ReadonlySet<string>>;
  /** Called when those are replaced. */
  readonly onReplaced: () => Promise<void>;
  /** Makes sure that the listening sockets are held by somebody who serves on none of them, and opens them if nobody has them. */
  readonly hold: (signal: AbortSignal) => Promise<void>;
  readonly isHeld: () => Promise<boolean>;
  /** Called when a worker or the holder was found dead: it is started again by the next `feed`. */
  readonly onLost: () => void;
  /** Where it is reached from outside, when somebody publishes it. */
  readonly publishedUrl: string | undefined;
  readonly logger: Logger;
}

export interface IngressProxy {
  /** Gives every worker these routes, starting those that do not run; when all have them already, nothing is done. */
  feed(routes: readonly Route[], signal: AbortSignal): Promise<void>;
  status(): { readonly port: number; readonly running: boolean; readonly published?: string; readonly reason?: string };
  /** Stops watching; the proxy goes on. */
  close(): Promise<void>;
}

/** A death is noticed at once by its broken connection; this is for one that hangs, and for the holder, and costs the agent processor time. */
const WATCH_MS = 500;
/** What running requests get to end when a worker is replaced by one of another configuration. */
const REPLACE_GRACE_MS = 5000;

export function createIngressProxy(options: IngressProxyOptions): IngressProxy {
  const { workers, routeFile, port, logger } = options;
  const ended = new AbortController();
  /** What all workers have acknowledged, and their pids, in the order of the workers. */
  let served: { readonly pids: number[]; readonly version: number; readonly routes: string } | undefined;
  let failure: string | undefined;
  /** Of the last snapshot. */
  let version: number | undefined;
  let outdated: Set<string> | undefined;
  let watching: Promise<void> | undefined;
  // A worker that dies breaks the connection that the last look has left open, and is looked for at once.
  let lookNow = (): void => undefined;
  for (const worker of workers) worker.onDisconnect(() => lookNow());

  /** One after the other, so that there is always one that serves. */
  const replaceOutdated = async (snapshot: string, signal: AbortSignal): Promise<void> => {
    if (outdated === undefined || outdated.size === 0) return;
    logger.info('the ingress proxy was started with another configuration and is replaced');
    for (const worker of workers) {
      if (!outdated.has(worker.name)) continue;
      await worker.stop(REPLACE_GRACE_MS);
      await worker.serve(snapshot, signal);
      outdated.delete(worker.name);
    }
    await options.onReplaced();
  };

  const feed = async (routes: string, signal: AbortSignal): Promise<void> => {
    outdated ??= new Set(await options.findOutdated());
    version ??= Math.max(await routeFile.readVersion(), ...(await versionsOf(workers, signal)));
    version += 1;
    const snapshot = snapshotText(version, routes);
    // Before anybody is told: a worker that is started from now on, by whomever, serves these routes.
    await routeFile.write(snapshot);
    await options.hold(signal);
    await replaceOutdated(snapshot, signal);
    const pids = await Promise.all(workers.map((worker) => worker.serve(snapshot, signal)));
    served = { pids, version, routes };
    failure = undefined;
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

  /** What dies is noticed here, so that it is started again although no route changes. */
  const watch = async (): Promise<void> => {
    while (!ended.signal.aborted) {
      await nextLook();
      const watched = served;
      if (watched === undefined) continue;
      const found = await Promise.all(workers.map((worker) => worker.look(ended.signal).catch(() => undefined)));
      const held = await options.isHeld();
      // A feed may have gone on meanwhile, and knows more.
      if (served !== watched) continue;
      const lost = workers.filter((_, index) => {
        const health = found[index];
        // One that was started again without the agent has its routes from the file.
        if (health === undefined || !isReady(health) || health.version !== watched.version) return true;
        if (health.pid !== watched.pids[index]) logger.warn({ worker: workers[index]?.name, pid: watched.pids[index] }, 'the ingress proxy was started again');
        watched.pids[index] = health.pid;
        return false;
      });
      if (lost.length === 0 && held) continue;
      for (const { name } of lost) logger.warn({ worker: name }, 'the ingress proxy is gone or does not answer');
      if (!held) logger.warn('the process that holds the sockets of the ingress is gone');
      served = undefined;
      options.onLost();
    }
  };

  return {
    feed: async (routes, signal) => {
      const text = JSON.stringify(routes);
      if (served?.routes === text) return;
      served = undefined;
      try {
        await feed(text, signal);
      } catch (error) {
        failure = error instanceof Error ? error.message : String(error);
        throw new ClawError('PROCESS_FAILED', failure, { cause: error });
      }
      watching ??= watch().catch((error: unknown) => {
        if (!ended.signal.aborted) logger.error({ err: error }, 'the ingress proxy is no longer watched');
      });
    },
    status: () => ({
      port,
      running: workers.some((worker) => worker.isServing()),
      ...(options.publishedUrl === undefined ? {} : { published: options.publishedUrl }),
      ...(failure === undefined ? {} : { reason: failure }),
    }),
    close: async () => {
      ended.abort();
      await watching;
      await Promise.all(workers.map((worker) => worker.close()));
    },
  };
}

/** One that hangs tells nothing, and is replaced later. */
async function versionsOf(workers: readonly ProxyWorker[], signal: AbortSignal): Promise<number[]> {
  const found = await Promise.all(workers.map((worker) => worker.look(signal).catch(() => undefined)));
  return found.map((health) => health?.version ?? 0);
}
