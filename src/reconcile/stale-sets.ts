/** Destroys sets that no rule refers to any more, a little after the rules went: nf_tables frees rules, and with them their hold on a set, only then. */
import type { Logger } from 'pino';
import type { IpsetState } from '../compile/kernel-state.ts';

export interface StaleSetsOptions {
  readonly ipset: { prune(sets: readonly IpsetState[], signal?: AbortSignal): Promise<unknown> };
  readonly logger: Logger;
}

export interface StaleSets {
  /** The rules of the kernel refer to these sets and to no others: what else there is goes soon. */
  applied(sets: readonly IpsetState[]): void;
  /** Something is being applied: nothing is destroyed before `applied` is called again. */
  hold(): void;
  close(): Promise<void>;
}

const WAITS_MS = { first: 50, most: 5000 };

export function openStaleSets({ ipset, logger }: StaleSetsOptions): StaleSets {
  const ended = new AbortController();
  let wanted: readonly IpsetState[] | undefined;
  let done: readonly IpsetState[] | undefined;
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<void> = Promise.resolve();

  const schedule = (waitMs: number): void => {
    clearTimeout(timer);
    if (ended.signal.aborted || wanted === undefined || wanted === done) return;
    timer = setTimeout(() => {
      running = prune(waitMs);
    }, waitMs);
  };

  const prune = async (waitedMs: number): Promise<void> => {
    const sets = wanted;
    if (sets === undefined) return;
    try {
      await ipset.prune(sets, ended.signal);
      done = sets;
    } catch (error) {
      if (ended.signal.aborted) return;
      // Still held by rules that are being freed; one that stays on costs memory and nothing else.
      if (waitedMs >= WAITS_MS.most) logger.warn({ err: error }, 'sets that are no longer needed could not be destroyed yet');
      schedule(Math.min(waitedMs * 2, WAITS_MS.most));
    }
  };

  return {
    applied: (sets) => {
      wanted = sets;
      schedule(WAITS_MS.first);
    },
    hold: () => {
      wanted = undefined;
      clearTimeout(timer);
    },
    close: async () => {
      ended.abort();
      clearTimeout(timer);
      await running;
    },
  };
}
