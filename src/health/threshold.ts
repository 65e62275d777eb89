/** When a target turns healthy or unhealthy, given one probe's result after another; pure. */

export interface Thresholds {
  /** Failures in a row until a healthy target is unhealthy. */
  readonly failures: number;
  /** Successes in a row until an unhealthy target is healthy. */
  readonly successes: number;
}

export interface Standing {
  /** Undefined until the first result. */
  readonly healthy: boolean | undefined;
  /** Results in a row that contradict `healthy`; below the threshold that would turn it. */
  readonly streak: number;
}

/** The standing after one more result. A target that was never probed counts as unhealthy: it has not proved itself yet. */
export function judge(before: Standing, succeeded: boolean, { failures, successes }: Thresholds): Standing {
  const healthy = before.healthy ?? false;
  if (succeeded === healthy) return { healthy, streak: 0 };
  const streak = before.streak + 1;
  return streak >= (succeeded ? successes : failures) ? { healthy: succeeded, streak: 0 } : { healthy, streak };
}
