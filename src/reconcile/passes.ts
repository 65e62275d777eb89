/** Runs passes one at a time, as soon as something changed and again after a failure, and tells who waits what came of it. It knows not what a pass does. */
import type { Logger } from 'pino';
import { toClawError } from '../errors.ts';
import type { Enforcement } from '../model/enforcement.ts';

export interface PassesOptions {
  /** What is kept in line, for the log and for reasons: "kernel", "ingress proxy". */
  readonly name: string;
  /** The store revision that a pass which begins now would cover. */
  readonly revision: () => number;
  readonly pass: (signal: AbortSignal) => Promise<void>;
  /** Told after each pass. */
  readonly onPass?: ((pass: PassResult) => void) | undefined;
  readonly logger: Logger;
}

export interface PassResult {
  readonly name: string;
  readonly durationMs: number;
  readonly failed: boolean;
}

export interface PassesStatus {
  /** The store revision of the last pass that succeeded. */
  readonly revision: number;
  /** Why the last pass failed. */
  readonly failure: string | undefined;
  /** How long the last pass took. */
  readonly durationMs?: number;
}

export interface Passes {
  /** Something changed: a pass begins at once, or as soon as the running one has ended. */
  wake(): void;
  /** Waits for a pass that began after this call, if anything changed since the last one, and held the revision. */
  reached(revision: number, signal: AbortSignal): Promise<Enforcement>;
  isReached(revision: number): Enforcement;
  status(): PassesStatus;
  /** Lets the running pass end and starts no other. */
  close(): Promise<void>;
}

const RETRY_MS = { first: 100, most: 5000 };

interface Waiter {
  readonly change: number;
  readonly revision: number;
  readonly resolve: (enforcement: Enforcement) => void;
}

export function startPasses({ name, revision: currentRevision, pass, onPass, logger }: PassesOptions): Passes {
  const ended = new AbortController();
  const waiters = new Set<Waiter>();
  // Counts everything that asks for a pass; a pass covers what was counted when it began.
  let changes = 1;
  let covered = 0;
  let status: PassesStatus = { revision: 0, failure: `${name}: the first pass has not ended yet` };
  let retryMs = RETRY_MS.first;
  let retry: NodeJS.Timeout | undefined;
  let running: Promise<void> | undefined;

  const enforcement = (revision: number): Enforcement => {
    if (status.failure !== undefined) return { enforced: false, reason: status.failure };
    if (status.revision < revision) return { enforced: false, reason: `${name}: revision ${status.revision} is in force, not yet ${revision}` };
    return { enforced: true };
  };

  const one = async (): Promise<void> => {
    const began = changes;
    const revision = currentRevision();
    const startedAt = performance.now();
    const failure = await attempt();
    const durationMs = performance.now() - startedAt;
    covered = began;
    // The same failure over and over is told once.
    if (failure !== undefined && failure !== status.failure && !ended.signal.aborted) logger.error({ reason: failure }, `${name}: not in line`);
    if (failure === undefined && status.failure !== undefined && status.revision > 0) logger.info(`${name}: in line again`);
    status = { revision: failure === undefined ? revision : status.revision, failure, durationMs };
    if (!ended.signal.aborted) onPass?.({ name, durationMs, failed: failure !== undefined });
    scheduleRetry();
    for (const waiter of waiters) {
      if (waiter.change > began || waiter.revision > revision) continue;
      waiters.delete(waiter);
      waiter.resolve(enforcement(waiter.revision));
    }
  };

  const attempt = async (): Promise<string | undefined> => {
    try {
      await pass(ended.signal);
      return undefined;
    } catch (error) {
      logger.debug({ err: error }, `${name}: a pass failed`);
      return toClawError(error).message;
    }
  };

  const scheduleRetry = (): void => {
    clearTimeout(retry);
    if (status.failure === undefined) retryMs = RETRY_MS.first;
    if (status.failure === undefined || ended.signal.aborted) return;
    retry = setTimeout(wake, retryMs);
    retryMs = Math.min(retryMs * 2, RETRY_MS.most);
  };

  const run = async (): Promise<void> => {
    while (covered < changes && !ended.signal.aborted) await one();
    running = undefined;
  };

  const wake = (): void => {
    changes += 1;
    if (!ended.signal.aborted) running ??= run();
  };

  running = run();

  return {
    wake,
    reached: (revision, signal) =>
      new Promise((resolve, reject) => {
        if (signal.aborted) return reject(signal.reason);
        if (covered >= changes && currentRevision() >= revision) return resolve(enforcement(revision));
        if (ended.signal.aborted) return resolve({ enforced: false, reason: 'the agent is stopping' });
        const abort = (): void => {
          waiters.delete(waiter);
          reject(signal.reason);
        };
        const waiter: Waiter = {
          change: changes,
          revision,
          resolve: (result) => {
            signal.removeEventListener('abort', abort);
            resolve(result);
          },
        };
        signal.addEventListener('abort', abort, { once: true });
        waiters.add(waiter);
      }),
    isReached: enforcement,
    status: () => status,
    close: async () => {
      ended.abort();
      clearTimeout(retry);
      await running;
      for (const waiter of waiters) waiter.resolve({ enforced: false, reason: 'the agent is stopping' });
      waiters.clear();
    },
  };
}
