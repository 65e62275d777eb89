/** Probes a set of targets again and again and knows which are healthy; it neither chooses the targets nor acts on the answer. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import type { Ipv4, Port } from '../model/address.ts';
import type { HealthCheck } from '../model/health-check.ts';
import { gapMs } from './gap.ts';
import { probe, type Outcome } from './probe.ts';
import { createSlots } from './slots.ts';
import { judge, type Standing } from './threshold.ts';

/** One address to probe. It must be a TCP port: a UDP port answers neither kind of check. */
export interface HealthTarget {
  /** Whose health this is, e.g. `services/default/web 10.200.1.2:8080`. Targets with one key are one target. */
  readonly key: string;
  readonly ip: Ipv4;
  readonly port: Port;
  readonly check: HealthCheck;
  /**
   * What was known before this checker knew the target, such as before a restart: it stands until the thresholds turn it. Read once,
   * when the target is new.
   */
  readonly lastKnown?: boolean | undefined;
}

export interface HealthResult {
  readonly healthy: boolean;
  /** Why the latest probe failed; absent when it succeeded. */
  readonly lastError?: string;
  /** When `healthy` took its value, in ms since 1970. */
  readonly since: number;
}

export interface HealthChecker {
  /**
   * The whole wanted set, or that of one group of targets: keys are unique over all groups. A target that stays with the same check is not disturbed; with another check it keeps its health, but
   * counts anew and is probed at once; with another address it is a new one. Probes of targets that are gone are cut off.
   */
  readonly set: (targets: readonly HealthTarget[], group?: string) => void;
  /** Undefined for what is not a target, and until the first probe has ended: within `timeoutMs` unless thousands queue. */
  readonly healthy: (key: string) => boolean | undefined;
  readonly result: (key: string) => HealthResult | undefined;
  /** A copy of all results; targets of which nothing is known yet are missing. */
  readonly results: () => ReadonlyMap<string, HealthResult>;
  /** Ends every probe and timer. `set` does nothing any more. */
  readonly close: () => void;
}

export interface HealthCheckerOptions {
  /** Called at once when `healthy(key)` has changed, also from undefined; not when `set` removes the target. It must not throw. */
  readonly onChange: (key: string) => void;
  readonly logger?: Logger;
  /** Time of day in ms since 1970, for `since`. */
  readonly now?: () => number;
  /** Probes that run at the same time; known unhealthy targets get half of them at most. */
  readonly maxInFlight?: number;
}

interface Watched {
  target: HealthTarget;
  standing: Standing;
  sinceMs: number;
  lastError: string | undefined;
  stop: AbortController;
}

const MAX_IN_FLIGHT = 128;

/** Starts without targets; close it to let the process end. */
export function startHealthChecker({ onChange, logger, now = Date.now, maxInFlight = MAX_IN_FLIGHT }: HealthCheckerOptions): HealthChecker {
  const slots = createSlots(maxInFlight);
  const watched = new Map<string, Watched>();
  const groups = new Map<string, readonly string[]>();
  let closed = false;

  const start = (entry: Watched): void => {
    entry.stop = new AbortController();
    void watch(entry, entry.stop.signal);
  };

  const watch = async (entry: Watched, signal: AbortSignal): Promise<void> => {
    const { target } = entry;
    let first = true;
    try {
      for (;;) {
        const free = await slots.take({ urgent: entry.standing.healthy !== false, signal });
        const startedAt = performance.now();
        const outcome = await probe(target, signal).finally(free);
        // An abort in the turn in which the probe ended finds no listener any more.
        signal.throwIfAborted();
        record(entry, outcome);
        const gap = gapMs(target.check.intervalMs, { first, random: Math.random() });
        await sleep(Math.max(0, gap - (performance.now() - startedAt)), undefined, { signal });
        first = false;
      }
    } catch (error) {
      // Being told to stop is how every watch ends; anything else is a defect and must be seen.
      if (!signal.aborted) throw error;
    }
  };

  const record = (entry: Watched, outcome: Outcome): void => {
    const { key, check } = entry.target;
    const before = entry.standing;
    if (outcome.verdict === 'inconclusive') {
      if (entry.lastError !== outcome.error) logger?.warn({ target: key, error: outcome.error }, 'health check could not be made');
      entry.lastError = outcome.error;
      return;
    }
    entry.lastError = outcome.verdict === 'failure' ? outcome.error : undefined;
    entry.standing = judge(before, outcome.verdict === 'success', check);
    if (entry.standing.healthy === before.healthy) return;
    entry.sinceMs = now();
    logger?.info({ target: key, healthy: entry.standing.healthy, error: entry.lastError }, 'health changed');
    onChange(key);
  };

  const add = (target: HealthTarget): void => {
    const entry: Watched = { target, standing: { healthy: target.lastKnown, streak: 0 }, sinceMs: now(), lastError: undefined, stop: new AbortController() };
    watched.set(target.key, entry);
    start(entry);
  };

  const remove = (entry: Watched): void => {
    watched.delete(entry.target.key);
    entry.stop.abort();
  };

  const replace = (entry: Watched, target: HealthTarget): void => {
    entry.stop.abort();
    entry.target = target;
    // What was counted was said by another check.
    entry.standing = { healthy: entry.standing.healthy, streak: 0 };
    start(entry);
  };

  return {
    set: (targets, group = '') => {
      if (closed) return;
      const wanted = new Map(targets.map((target) => [target.key, target]));
      for (const key of groups.get(group) ?? []) {
        const entry = watched.get(key);
        const target = wanted.get(key);
        if (entry !== undefined && (target === undefined || !sameAddress(target, entry.target))) remove(entry);
      }
      if (wanted.size === 0) groups.delete(group);
      else groups.set(group, [...wanted.keys()]);
      for (const target of wanted.values()) {
        const entry = watched.get(target.key);
        if (entry === undefined) add(target);
        else if (!isDeepStrictEqual(entry.target.check, target.check)) replace(entry, target);
      }
    },
    healthy: (key) => watched.get(key)?.standing.healthy,
    result: (key) => {
      const entry = watched.get(key);
      return entry === undefined ? undefined : resultOf(entry)[0];
    },
    results: () => new Map([...watched].flatMap(([key, entry]) => resultOf(entry).map((result) => [key, result] as const))),
    close: () => {
      closed = true;
      for (const entry of watched.values()) remove(entry);
    },
  };
}

function resultOf({ standing: { healthy }, lastError, sinceMs }: Watched): HealthResult[] {
  return healthy === undefined ? [] : [{ healthy, ...(lastError === undefined ? {} : { lastError }), since: sinceMs }];
}

function sameAddress(a: HealthTarget, b: HealthTarget): boolean {
  return a.ip === b.ip && a.port === b.port;
}
