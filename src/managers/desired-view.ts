/** An in-memory copy of the store's records, kept true by its watch; parses each record once and never writes. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { AllocationRange } from '../ipam/keys.ts';
import type { Desired } from '../model/observed.ts';
import { Compacted, type Store, type StoreEvent } from '../store/store.ts';
import { createRecordState, type AllocationTable } from './record-state.ts';

type ChangeListener = (keys: readonly string[] | undefined) => void;

export interface DesiredView {
  readonly state: Desired;
  allocations(range: AllocationRange): AllocationTable;
  /** The record keys of services written or deleted after the revision; undefined when that is too long ago to be known. */
  servicesChangedSince(revision: number): Iterable<string> | undefined;
  /** The revision of the key's last write, 0 when it does not exist. */
  modRevision(key: string): number;
  /** Resolves when the copy has seen the revision. */
  reached(revision: number, signal?: AbortSignal): Promise<void>;
  /** Told after each transaction, with the keys that it wrote or deleted; undefined when everything was read again. */
  onChange(listener: ChangeListener): () => void;
  close(): Promise<void>;
}

const REREAD_AFTER_MS = 500;
/** So many changes of services are remembered by their keys. */
const CHANGES_KEPT = 10_000;

/** Lists the whole store, then follows it until closed. A record that can not be read is logged and left out. */
export async function openDesiredView(store: Store, logger: Logger): Promise<DesiredView> {
  const records = createRecordState();
  const { state } = records;
  const revisions = new Map<string, number>();
  const listeners = new Set<ChangeListener>();
  const ended = new AbortController();
  // Keys of services with the revision of their change, in order; complete behind `since`.
  const changes: { since: number; keys: { readonly revision: number; readonly key: string }[] } = { since: 0, keys: [] };

  const remove = (key: string): void => {
    revisions.delete(key);
    records.remove(key);
  };

  const apply = (event: StoreEvent): void => {
    const key = event.type === 'put' ? event.item.key : event.key;
    try {
      // Also before a put: a new version that can not be read must not leave the old one standing.
      remove(key);
      if (event.type === 'delete') return;
      revisions.set(key, event.item.modRevision);
      records.put(key, event.item.value);
    } catch (error) {
      logger.error({ key, err: error }, 'a record of the store can not be read and is left out');
    }
  };

  const remember = (event: StoreEvent): void => {
    const { key, modRevision } = event.type === 'put' ? event.item : event;
    if (!key.startsWith('services/')) return;
    changes.keys.push({ revision: modRevision, key });
    if (changes.keys.length < CHANGES_KEPT * 2) return;
    const dropped = changes.keys.splice(0, CHANGES_KEPT);
    changes.since = dropped.at(-1)?.revision ?? changes.since;
  };

  const load = async (): Promise<void> => {
    const { items, revision } = await store.list('');
    const alive = new Set(items.map((item) => item.key));
    for (const key of [...revisions.keys()].filter((known) => !alive.has(known))) remove(key);
    for (const item of items) if (revisions.get(item.key) !== item.modRevision) apply({ type: 'put', item });
    state.revision = revision;
    changes.since = revision;
    changes.keys = [];
  };

  const follow = async (): Promise<void> => {
    while (!ended.signal.aborted) {
      try {
        for await (const batch of store.watch('', state.revision, ended.signal)) {
          for (const event of batch.events) {
            apply(event);
            remember(event);
          }
          state.revision = batch.revision;
          const keys = batch.events.map((event) => (event.type === 'put' ? event.item.key : event.key));
          for (const listener of listeners) listener(keys);
        }
      } catch (error) {
        if (ended.signal.aborted) return;
        if (!(error instanceof Compacted)) {
          logger.error({ err: error }, 'the watch of the store broke; everything is read again');
          await delay(REREAD_AFTER_MS, undefined, { signal: ended.signal });
        }
        await reread();
      }
    }
  };

  const reread = async (): Promise<void> => {
    try {
      await load();
      for (const listener of listeners) listener(undefined);
    } catch (error) {
      // The next watch fails too, and leads here again.
      if (!ended.signal.aborted) logger.error({ err: error }, 'the store can not be read');
    }
  };

  await load();
  const following = follow().catch((error: unknown) => {
    if (!ended.signal.aborted) logger.fatal({ err: error }, 'the store is no longer watched');
  });

  return {
    state,
    allocations: (range) => records.allocations(range),
    servicesChangedSince: (revision) => {
      if (revision < changes.since) return undefined;
      const first = changes.keys.findLastIndex((change) => change.revision <= revision) + 1;
      return new Set(changes.keys.slice(first).map(({ key }) => key));
    },
    modRevision: (key) => revisions.get(key) ?? 0,
    reached: (revision, signal) =>
      new Promise((resolve, reject) => {
        if (signal?.aborted === true) return reject(signal.reason);
        if (state.revision >= revision) return resolve();
        const stop = (): void => {
          listeners.delete(look);
          signal?.removeEventListener('abort', abort);
        };
        const look = (): void => {
          if (state.revision < revision) return;
          stop();
          resolve();
        };
        const abort = (): void => {
          stop();
          reject(signal?.reason);
        };
        listeners.add(look);
        signal?.addEventListener('abort', abort, { once: true });
      }),
    onChange: (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    close: async () => {
      ended.abort();
      await following;
    },
  };
}
