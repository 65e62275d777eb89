/** How long a process that ended waits until it is started again; pure. */

export interface BackoffOptions {
  readonly firstMs: number;
  readonly mostMs: number;
  /** One that ran so long starts from the first delay again. */
  readonly resetAfterMs: number;
}

export const RESTART_BACKOFF: BackoffOptions = { firstMs: 100, mostMs: 10_000, resetAfterMs: 10_000 };

/** The next delay in ms, given the one before (undefined for the first) and how long the process ran since. */
export function nextDelayMs(previousMs: number | undefined, ranMs: number, options: BackoffOptions = RESTART_BACKOFF): number {
  if (previousMs === undefined || ranMs >= options.resetAfterMs) return options.firstMs;
  return Math.min(previousMs * 2, options.mostMs);
}
