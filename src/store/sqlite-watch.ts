/** Watches on the event log: each reads on from its own cursor whenever it is woken; it never writes and holds no queue. */
import { ClawError } from '../errors.ts';
import { whenUnlocked } from './sqlite-errors.ts';
import { keyRange } from './sqlite-keys.ts';
import { integer, toEvent } from './sqlite-rows.ts';
import type { Statements } from './sqlite-statements.ts';
import { Compacted, type StoreEvent, type WatchBatch } from './store.ts';

/** Revisions read at a time, so that a watch that starts far behind does not hold up the event loop. */
const PAGE_REVISIONS = 500;

export interface Watches {
  readonly watch: (prefix: string, fromRevision: number, signal: AbortSignal) => AsyncIterable<WatchBatch>;
  /** The log may have grown, here or in another process. */
  readonly wake: () => void;
  /** The store cannot be read any more: every watch throws this. */
  readonly fail: (failure: Error) => void;
  /** Every watch ends. */
  readonly end: () => void;
}

export function createWatches(path: string, statements: Statements): Watches {
  let ended = false;
  let next = Promise.withResolvers<Error | undefined>();
  const wake = (failure?: Error): void => {
    const current = next;
    next = Promise.withResolvers();
    current.resolve(failure);
  };

  async function* watch(prefix: string, fromRevision: number, signal: AbortSignal): AsyncGenerator<WatchBatch> {
    const range = keyRange(prefix);
    let cursor = fromRevision;
    let stopped = signal.aborted;
    const over = (): boolean => ended || stopped;
    // One listener per watch: several watches may share a signal, and each takes its own one off.
    const stop = (): void => {
      stopped = true;
      wake();
    };
    signal.addEventListener('abort', stop, { once: true });
    try {
      while (!over()) {
        // Taken before the log is read: what is written after the read wakes this very promise.
        const woken = next.promise;
        const page = await whenUnlocked(path, () => (over() ? undefined : readPage(statements, range, cursor)));
        if (page === undefined) return;
        for (const batch of page.batches) {
          yield batch;
          if (over()) return;
        }
        cursor = page.cursor;
        if (!page.atHead) continue;
        const failure = await woken;
        if (failure !== undefined) throw failure;
      }
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  return {
    watch,
    wake: () => wake(),
    fail: wake,
    end: () => {
      ended = true;
      wake();
    },
  };
}

interface Page {
  readonly batches: readonly WatchBatch[];
  readonly cursor: number;
  readonly atHead: boolean;
}

function readPage(statements: Statements, { from, to }: ReturnType<typeof keyRange>, cursor: number): Page {
  const head = integer(statements.head.get(), 'revision');
  if (cursor > head) {
    throw new ClawError('STORE_FAILED', `a watch asks for revision ${cursor}, the store is at ${head}`, {
      hint: 'The store was replaced by an older copy: list again and watch from there.',
    });
  }
  const upTo = Math.min(head, cursor + PAGE_REVISIONS);
  const rows = cursor === upTo ? [] : statements.events.all(cursor, upTo, from, to);
  // Asked after the events were read: had another process dropped some of them meanwhile, this tells.
  const compacted = integer(statements.head.get(), 'compacted');
  if (cursor < compacted) throw new Compacted(compacted + 1);
  return { batches: toBatches(rows.map(toEvent)), cursor: upTo, atHead: upTo === head };
}

function toBatches(events: readonly StoreEvent[]): readonly WatchBatch[] {
  const batches: { revision: number; events: StoreEvent[] }[] = [];
  for (const event of events) {
    const revision = event.type === 'put' ? event.item.modRevision : event.modRevision;
    const last = batches.at(-1);
    if (last?.revision === revision) last.events.push(event);
    else batches.push({ revision, events: [event] });
  }
  return batches;
}
