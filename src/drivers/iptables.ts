/** Makes the kernel's iptables rules match the desired chains and jumps of ours; it never touches a foreign rule, chain or policy. */
import { ClawError } from '../errors.ts';
import { TABLES, type IptablesState, type Rules, type Table, type TableState } from '../compile/kernel-state.ts';
import { checkTables } from './iptables-check.ts';
import { asProgrammed, diffTable, type TableDifference } from './iptables-diff.ts';
import { describeDrift } from './iptables-drift.ts';
import { transactionSizes, transactionsOf, type TransactionSizes } from './iptables-transactions.ts';
import { openRestoreProcess, type CommitOptions, type RestoreObserver } from './iptables-restore.ts';
import { listChains, parseIptablesSave, saveTable, saveTables, targetsOwnChain, type ChainNames, type IptablesBackend, type ProgrammedTable } from './iptables-save.ts';

export interface IptablesDriver {
  /**
   * Makes the kernel match and resolves once it does; `written` counts the lines that took (0: nothing differed).
   * Throws ClawError `KERNEL_REFUSED`, `TIMEOUT`, `MISSING_BINARY`, `PROCESS_FAILED` or `NOT_SUPPORTED`, or the signal's reason; the
   * next call then reads what the kernel holds before it writes.
   */
  apply(desired: IptablesState, signal?: AbortSignal): Promise<{ readonly written: number }>;
  /** Forgets what is known to be programmed, so that the next `apply` reads the kernel and repairs what others changed. */
  resync(): void;
  /**
   * Says in words what others changed, without writing. It reads small tables whole; of large ones only our jumps and the
   * chains they lead to. Nothing is said while the next `apply` would read the kernel anyway.
   */
  check(tables: readonly Table[], signal?: AbortSignal): Promise<readonly string[]>;
  /** Makes and deletes a chain of this name in one transaction, so that whoever watches the kernel sees which process is ours. */
  mark(chain: string, signal?: AbortSignal): Promise<void>;
  /** Deletes every chain of ours and every jump to one, in all tables; needs no known state. */
  removeAll(signal?: AbortSignal): Promise<{ readonly written: number }>;
  /** Ends the restore process; the rules stay. */
  close(): Promise<void>;
}

/** What the driver needs of the kernel; tests put a fake in its place. */
export interface IptablesKernel {
  /** All tables as `iptables-save` prints them. */
  save(signal?: AbortSignal): Promise<string>;
  /** One table, and the rules of some chains, as `saveTable` and `listChains` give them. */
  saveTable(table: Table, signal?: AbortSignal): Promise<string>;
  listChains(names: ChainNames, signal?: AbortSignal): Promise<ReadonlyMap<string, Rules>>;
  /** Up to so many rules, one process that prints a whole table costs less than one for each chain that is looked at. */
  readonly smallTableRules: number;
  commit(payload: string, options: CommitOptions): Promise<void>;
  close(): Promise<void>;
}

export interface IptablesOptions {
  readonly backend: IptablesBackend;
  /** Told what others had changed, once it is repaired. */
  readonly onRepaired?: ((words: readonly string[]) => void) | undefined;
  readonly observer?: RestoreObserver;
}

/** The driver of the kernel's own tables, in the backend that holds this machine's rules. */
export function openIptables({ backend, onRepaired, observer }: IptablesOptions): IptablesDriver {
  const connect = (onRestoreExit: () => void): IptablesKernel => {
    const restore = openRestoreProcess({
      // `--wait` without a number: with one, iptables-legacy-restore ends with exit code 0 after so many idle seconds.
      argv: [`iptables-${backend}-restore`, '--noflush', '-v', '--wait'],
      onExit: onRestoreExit,
      observer,
    });
    return {
      save: (signal) => saveTables(backend, signal),
      saveTable: (table, signal) => saveTable(backend, table, signal),
      listChains: (names, signal) => listChains(backend, names, signal),
      // 15,000 rules: 36 ms of this process and iptables-legacy-save, of which reading the table takes half.
      smallTableRules: backend === 'nft' ? 1_000 : 4_000,
      commit: (payload, options) => restore.commit(payload, options),
      close: () => restore.close(),
    };
  };
  return iptablesDriver(transactionSizes(backend), connect, onRepaired);
}

type Programmed = ReadonlyMap<string, ProgrammedTable>;
type Desired = ReadonlyMap<string, TableState>;

/** The driver over any kernel; `connect` is given what to call when the restore process has ended. */
export function iptablesDriver(
  sizes: TransactionSizes,
  connect: (onRestoreExit: () => void) => IptablesKernel,
  onRepaired?: IptablesOptions['onRepaired'],
): IptablesDriver {
  let programmed: Programmed | undefined;
  // What the last proved commit left, kept over a resync: against it is told what others changed.
  let believed: Desired | undefined;
  // Tells a change under way that what it has written is no longer the whole truth.
  let resyncs = 0;
  const resync = (): void => {
    programmed = undefined;
    resyncs += 1;
  };
  // Whoever ended the process may have changed the rules as well.
  const kernel = connect(resync);
  let queue: Promise<unknown> = Promise.resolve();

  /** Calls run one after the other: each computes its difference from what the one before has programmed. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = queue.then(work, work);
    queue = result.catch(() => undefined);
    return result;
  }

  async function change(next: (held: Programmed) => Desired, signal?: AbortSignal): Promise<{ written: number }> {
    signal?.throwIfAborted();
    const resyncsBefore = resyncs;
    const held = programmed ?? parseIptablesSave(await kernel.save(signal));
    const desired = next(held);
    const drift = programmed === undefined && believed !== undefined ? driftOf({ held, believed, desired }) : [];
    // Until the commit is proved, nothing is known: a payload of several tables may fail after its first.
    programmed = undefined;
    const { payload, lines } = payloadOf(held, desired, sizes);
    if (lines > 0) await kernel.commit(payload, { timeoutMs: COMMIT_TIMEOUT_MS + lines * COMMIT_TIMEOUT_MS_PER_LINE, ...(signal === undefined ? {} : { signal }) });
    if (resyncs === resyncsBefore) programmed = new Map([...desired].map(([table, state]) => [table, asProgrammed(state, held.get(table) ?? NOTHING)]));
    believed = desired;
    if (drift.length > 0) onRepaired?.(drift);
    return { written: lines };
  }

  return {
    apply: (desired, signal) => inTurn(() => change(() => checked(desired), signal)),
    resync,
    check: (tables, signal) =>
      inTurn(async () => (programmed === undefined || believed === undefined ? [] : await checkTables(kernel, { believed, tables }, signal))),
    mark: (chain, signal) =>
      inTurn(async () => {
        const payload = `*raw\n${transactionsOf({ ...NO_DIFFERENCE, stale: [chain] }, sizes).flat().join('\n')}\nCOMMIT\n`;
        await kernel.commit(payload, { timeoutMs: COMMIT_TIMEOUT_MS, ...(signal === undefined ? {} : { signal }) });
      }),
    removeAll: (signal) =>
      inTurn(async () => {
        programmed = undefined;
        believed = undefined;
        return await change((held) => new Map([...held.keys()].map((table) => [table, EMPTY])), signal);
      }),
    close: () => inTurn(() => kernel.close()),
  };
}

// The wait for the lock that iptables-legacy takes is part of it.
const COMMIT_TIMEOUT_MS = 15_000;
const COMMIT_TIMEOUT_MS_PER_LINE = 5;

const EMPTY: TableState = { chains: new Map(), jumps: [] };
const NOTHING: ProgrammedTable = { chains: new Map(), jumps: [] };
const NO_DIFFERENCE: TableDifference = { created: [], rewritten: [], edited: [], jumps: [], stale: [] };

function driftOf({ held, believed, desired }: { held: Programmed; believed: Desired; desired: Desired }): string[] {
  return [...desired].flatMap(([table, state]) =>
    describeDrift({ table, held: held.get(table) ?? NOTHING, believed: believed.get(table) ?? EMPTY, desired: state }),
  );
}

function payloadOf(held: Programmed, desired: Desired, sizes: TransactionSizes): { payload: string; lines: number } {
  const parts: string[] = [];
  let lines = 0;
  for (const [table, state] of desired) {
    for (const transaction of transactionsOf(diffTable(held.get(table) ?? NOTHING, state), sizes)) {
      parts.push(`*${table}`, ...transaction, 'COMMIT');
      lines += transaction.length;
    }
  }
  return { payload: `${parts.join('\n')}\n`, lines };
}

/** A table whose jumps we could not find again, because they lead to no chain of ours, is a defect of the caller. */
function checked(desired: IptablesState): Desired {
  for (const table of TABLES) {
    const odd = desired[table].jumps.find((jump) => !targetsOwnChain(jump.rule));
    if (odd !== undefined) throw new ClawError('INTERNAL', `the rule \`${odd.rule}\` in ${odd.chain} does not jump to a chain of ours`);
  }
  return new Map(TABLES.map((table) => [table, desired[table]]));
}
