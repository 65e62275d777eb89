/** How much the agent takes on at once and per second, over all callers together; it knows no caller and no command. */
import { ClawError } from './errors.ts';

/** Who listens for changes holds a connection for good and costs nothing else, so the two are counted by themselves. */
export type Admitted = 'call' | 'listener';

export interface Throttle {
  /** Takes up one and gives what ends it; ending it twice counts once. Throws LIMIT_EXCEEDED when there are too many. */
  enter(what: Admitted): () => void;
  /** Counts one change. Throws LIMIT_EXCEEDED when they come too fast. */
  change(): void;
}

export interface LimitFigures {
  readonly concurrentCalls: number;
  readonly changesPerSecond: number;
}

/** So many seconds' worth of changes may come at once after a pause: a manifest or a script begins with a burst. */
const BURST_SECONDS = 5;

/** `nowMs` is a clock that never goes back. */
export function createThrottle({ concurrentCalls, changesPerSecond }: LimitFigures, nowMs: () => number = () => performance.now()): Throttle {
  const burst = changesPerSecond * BURST_SECONDS;
  const running = { call: 0, listener: 0 };
  let left = burst;
  let countedAtMs = nowMs();
  return {
    enter: (what) => {
      if (running[what] >= concurrentCalls) throw tooMany(`there are ${running[what]} ${what}s at once, and limits.concurrentCalls is ${concurrentCalls}`);
      running[what] += 1;
      let ended = false;
      return () => {
        if (!ended) running[what] -= 1;
        ended = true;
      };
    },
    change: () => {
      const now = nowMs();
      left = Math.min(burst, left + ((now - countedAtMs) / 1000) * changesPerSecond);
      countedAtMs = now;
      if (left < 1) throw tooMany(`changes come faster than ${changesPerSecond} a second (limits.changesPerSecond)`);
      left -= 1;
    },
  };
}

/** Nothing was begun, so that the same call may be made again. */
function tooMany(message: string): ClawError {
  return new ClawError('LIMIT_EXCEEDED', message, { hint: 'Nothing was changed: try again in a second, with fewer calls at once. Others may be calling too.' });
}
