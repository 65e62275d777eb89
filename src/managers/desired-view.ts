/** An in-memory copy of the store's records, kept true by its watch; parses each record once and never writes. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { ipv4, type Ipv4 } from '../model/address.ts';
import { ingress, type Ingress } from '../model/ingress.ts';
import { namespace, type Namespace } from '../model/namespace.ts';
import type { Desired } from '../model/observed.ts';
import { policy, type Policy } from '../model/policy.ts';
import { service, type Service } from '../model/service.ts';
import { workload, type Workload } from '../model/workload.ts';
import { allocationPrefix, allocationRecord, cursorRecord, type AllocationRange } from '../ipam/keys.ts';
import { Compacted, type Store, type StoreEvent, type StoreItem } from '../store/store.ts';

/** One range's allocations as `ipam/allocate` takes them, with the revision of each address's record for compare-and-set. */
export interface AllocationTable {
  readonly taken: ReadonlyMap<Ipv4, string>;
  /** Address -> epoch ms of its release. */
  readonly released: ReadonlyMap<Ipv4, number>;
  readonly last: Ipv4 | undefined;
}

export interface DesiredView {
  readonly state: Desired;
  allocations(range: AllocationRange): AllocationTable;
  /** The record keys of services written or deleted after the revision; undefined when that is too long ago to be known. */
  servicesChangedSince(revision: number): Iterable<string> | undefined;
  /** The revision of the key's last write, 0 when it does not exist. */
  modRevision(key: string): number;
  /** Resolves when the copy has seen the revision. */
  reached(revision: number, signal?: AbortSignal): Promise<void>;
  onChange(listener: () => void): () => void;
  close(): Promise<void>;
}

const REREAD_AFTER_MS = 500;
/** So many changes of services are remembered by their keys. */
const CHANGES_KEPT = 10_000;

interface MutableTable {
  readonly taken: Map<Ipv4, string>;
  readonly released: Map<Ipv4, number>;
  last: Ipv4 | undefined;
}

interface MutableState {
  revision: number;
  workloadGeneration: number;
  policyGeneration: number;
  readonly services: Map<string, Service>;
  readonly ingresses: Map<string, Ingress>;
  readonly workloads: Map<string, Workload>;
  readonly namespaces: Map<string, Namespace>;
  readonly policies: Map<string, Policy>;
}

/** Lists the whole store, then follows it until closed. A record that can not be read is logged and left out. */
export async function openDesiredView(store: Store, logger: Logger): Promise<DesiredView> {
  const state: MutableState = {
    revision: 0,
    workloadGeneration: 0,
    policyGeneration: 0,
    services: new Map(),
    ingresses: new Map(),
    workloads: new Map(),
    namespaces: new Map(),
    policies: new Map(),
  };
  const revisions = new Map<string, number>();
  const tables = new Map<string, MutableTable>();
  const listeners = new Set<() => void>();
  const ended = new AbortController();
  // Keys of services with the revision of their change, in order; complete behind `since`.
  const changes: { since: number; keys: { readonly revision: number; readonly key: string }[] } = { since: 0, keys: [] };

  const table = (prefix: string): MutableTable => {
    const known = tables.get(prefix);
    if (known !== undefined) return known;
    const made: MutableTable = { taken: new Map(), released: new Map(), last: undefined };
    tables.set(prefix, made);
    return made;
  };

  const remove = (key: string): void => {
    const [kind = ''] = key.split('/', 1);
    revisions.delete(key);
    if (kind === 'ipam') {
      const { prefix, ip } = allocationPlace(key);
      if (ip === undefined) return;
      table(prefix).taken.delete(ip);
      table(prefix).released.delete(ip);
      return;
    }
    if (kind === 'workloads') state.workloadGeneration += 1;
    if (kind === 'policies' || kind === 'namespaces') state.policyGeneration += 1;
    recordMaps(state)[kind]?.delete(key);
  };

  const put = (item: StoreItem): void => {
    const [kind = ''] = item.key.split('/', 1);
    revisions.set(item.key, item.modRevision);
    if (kind === 'services') state.services.set(item.key, service.parse(item.value));
    else if (kind === 'ingresses') state.ingresses.set(item.key, ingress.parse(item.value));
    else if (kind === 'policies') {
      state.policies.set(item.key, policy.parse(item.value));
      state.policyGeneration += 1;
    } else if (kind === 'namespaces') {
      state.namespaces.set(item.key, namespace.parse(item.value));
      state.policyGeneration += 1;
    } else if (kind === 'workloads') {
      state.workloads.set(item.key, workload.parse(item.value));
      state.workloadGeneration += 1;
    } else if (kind === 'ipam') putAllocation(table, item);
  };

  const apply = (event: StoreEvent): void => {
    const key = event.type === 'put' ? event.item.key : event.key;
    try {
      // Also before a put: a new version that can not be read must not leave the old one standing.
      remove(key);
      if (event.type === 'put') put(event.item);
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
          for (const listener of listeners) listener();
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
      for (const listener of listeners) listener();
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
    allocations: (range) => table(allocationPrefix(range)),
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

function recordMaps(state: MutableState): Record<string, Map<string, unknown>> {
  return { services: state.services, ingresses: state.ingresses, workloads: state.workloads, namespaces: state.namespaces, policies: state.policies };
}

/** `ipam/clusterip/10.201.0.1` names an address below its range's prefix; `ipam/cursor/clusterip` names the range only. */
function allocationPlace(key: string): { prefix: string; ip: Ipv4 | undefined } {
  const cursor = 'ipam/cursor/';
  if (key.startsWith(cursor)) return { prefix: `ipam/${key.slice(cursor.length)}/`, ip: undefined };
  const slash = key.lastIndexOf('/') + 1;
  return { prefix: key.slice(0, slash), ip: ipv4.parse(key.slice(slash)) };
}

function putAllocation(table: (prefix: string) => MutableTable, { key, value }: StoreItem): void {
  const { prefix, ip } = allocationPlace(key);
  const target = table(prefix);
  if (ip === undefined) {
    target.last = cursorRecord.parse(value).last;
    return;
  }
  const record = allocationRecord.parse(value);
  target.taken.delete(ip);
  target.released.delete(ip);
  if ('owner' in record) target.taken.set(ip, record.owner);
  else target.released.set(ip, Date.parse(record.releasedAt));
}
