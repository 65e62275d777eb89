/** Counts and tells what others changed in the kernel and we repaired; it looks at nothing itself. */
import type { Logger } from 'pino';

export interface DriftStatus {
  /** How many times something had to be repaired since this agent started. */
  readonly repairs: number;
  /** RFC 3339. */
  readonly lastRepairAt?: string;
  /** What the last one was, in words. */
  readonly last?: string;
}

export interface DriftLog {
  /** For the `onRepaired` of drivers: these differences were found and are gone. */
  repaired(words: readonly string[]): void;
  /** Whose change was just seen: named with the repair that follows within seconds. */
  suspect(program: string): void;
  status(): DriftStatus;
}

const SUSPECT_MS = 10_000;
/** `last` is shown in an answer; the log holds all of it. */
const WORDS_SHOWN = 3;

export function openDriftLog(logger: Logger): DriftLog {
  let status: DriftStatus = { repairs: 0 };
  let suspected: { readonly program: string; readonly at: number } | undefined;
  return {
    repaired: (words) => {
      const by = suspected !== undefined && performance.now() - suspected.at < SUSPECT_MS ? suspected.program : undefined;
      suspected = undefined;
      const more = words.length > WORDS_SHOWN ? ` and ${words.length - WORDS_SHOWN} more` : '';
      const last = `${words.slice(0, WORDS_SHOWN).join('; ')}${more}${by === undefined ? '' : ` (changed by ${by})`}`;
      status = { repairs: status.repairs + 1, lastRepairAt: new Date().toISOString(), last };
      logger.warn({ drift: words, ...(by === undefined ? {} : { by }) }, 'repaired what others changed in the kernel');
    },
    suspect: (program) => {
      suspected = { program, at: performance.now() };
    },
    status: () => status,
  };
}
