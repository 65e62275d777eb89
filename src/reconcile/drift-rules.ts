/** Tells our own changes of the nf_tables ruleset from those of others, and asks for a resync after the latter; it never reads the whole ruleset. */
import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import { TABLES, type Table } from '../compile/kernel-state.ts';
import { MARK_PREFIX, watchRuleset, type RulesetChange } from '../drivers/drift-watch-nft.ts';
import type { IptablesDriver } from '../drivers/iptables.ts';
import type { DriftLog } from './drift-log.ts';
import { patiently } from './patience.ts';

export interface RulesWatchOptions {
  readonly iptables: Pick<IptablesDriver, 'check' | 'mark'>;
  readonly resync: () => void;
  readonly log: Pick<DriftLog, 'suspect'>;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

export interface RulesWatch {
  /** Whether changes are told; until then, and after its end, somebody else has to look. */
  isWatching(): boolean;
  close(): Promise<void>;
}

/** The name under which the kernel knows our restore process: it keeps 15 bytes. */
const OUR_PROGRAM = 'iptables-nft-restore'.slice(0, 15);
const GATHER_MS = 20;
/** The longest that `nft monitor` may take to print what has happened, on a busy machine and at its start with many rules. */
const MARK_SEEN_MS = 3_000;

export function watchRules({ iptables, resync, log, logger, signal }: RulesWatchOptions): RulesWatch {
  let watching = false;
  let running = false;
  // Whether changes were told and then no more: of what was changed in between, nobody knows.
  let interrupted = false;
  // The pid of our restore process as the kernel tells it, which is not the one that we know when we are in a pid namespace.
  let ownPid: number | undefined;
  let pending: RulesetChange[] = [];
  const marks = new Map<string, (pid: number | undefined) => void>();

  const onChange = (change: RulesetChange): void => {
    const { mark, pid } = change;
    if (mark !== undefined) marks.get(mark)?.(pid);
    if (pid === ownPid || mark !== undefined) return;
    pending.push(change);
    judgement.request();
  };

  /** A transaction of our restore process shows its pid. Whatever the kernel told before it has then been read. */
  async function introduce(): Promise<number | undefined> {
    const mark = `${MARK_PREFIX}${randomBytes(5).toString('hex')}`;
    const { promise, resolve } = Promise.withResolvers<number | undefined>();
    const giveUp = (): void => resolve(undefined);
    marks.set(mark, resolve);
    signal.addEventListener('abort', giveUp, { once: true });
    let timer: NodeJS.Timeout | undefined;
    try {
      await iptables.mark(mark, signal);
      timer = setTimeout(giveUp, MARK_SEEN_MS);
      return await promise;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', giveUp);
      marks.delete(mark);
    }
  }

  async function judge(): Promise<void> {
    const suspicious = pending.some(({ pid, program }) => program === OUR_PROGRAM && pid !== ownPid);
    if (suspicious) ownPid = (await introduce()) ?? ownPid;
    const changes = pending.filter(({ pid }) => pid !== ownPid);
    pending = [];
    const culprit = changes.findLast(({ ours }) => ours) ?? changes.at(-1);
    if (culprit === undefined) return;
    log.suspect(culprit.program);
    if (culprit.ours) return resync();
    const tables = TABLES.filter((table) => changes.some(({ besideJumps }) => besideJumps.includes(table)));
    await checkThen(tables);
  }

  /** A rule beside one of our jumps says nothing yet: ours may still be in its place. */
  async function checkThen(tables: readonly Table[]): Promise<void> {
    const words = await iptables.check(tables, signal);
    if (words.length > 0) resync();
  }

  /** `nft monitor` has just been started: it listens as soon as it tells of a mark. */
  async function begin(): Promise<void> {
    try {
      while (running && !watching && !signal.aborted) {
        ownPid = (await introduce()) ?? ownPid;
        watching = running && ownPid !== undefined;
      }
    } catch (error) {
      // Whoever programs the rules tells of a kernel that takes none. Until it does again, rules are looked at every few seconds.
      logger.debug({ err: error }, 'drift: no mark could be made; it is tried again');
      interrupted = true;
      beginning.request();
    }
    if (!watching) return;
    logger.debug({ ownPid }, 'drift: changes of rules are watched');
    if (interrupted) resync();
    else await checkThen(TABLES);
  }

  const attempt = async (act: () => Promise<void>): Promise<void> => {
    try {
      await act();
    } catch (error) {
      if (signal.aborted) return;
      logger.warn({ err: error }, 'drift: looking at changed rules failed; all are read');
      resync();
    }
  };

  const judgement = patiently({ act: () => attempt(judge), quietMs: GATHER_MS });
  // Not at once: `nft` needs a while until it listens, and a program that cannot be started needs no mark.
  const beginning = patiently({ act: () => attempt(begin), quietMs: 300 });

  const watch = watchRuleset({
    onChange,
    onStart: () => {
      running = true;
      beginning.request();
    },
    onOverflow: () => {
      logger.info('drift: the kernel had more changes to tell than could be taken; all rules are read');
      resync();
    },
    onEnd: (reason) => {
      if (!interrupted) logger.warn({ reason }, 'drift: changes of rules are not told; they are looked for every few seconds');
      running = false;
      watching = false;
      ownPid = undefined;
      interrupted = true;
      for (const giveUp of marks.values()) giveUp(undefined);
    },
  });

  return {
    isWatching: () => watching,
    close: async () => {
      await Promise.all([watch.close(), judgement.close(), beginning.close()]);
    },
  };
}
