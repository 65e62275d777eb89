/** The store's interface: a revisioned key-value map with transactions and watches. Drivers implement it; it knows no noun. */

/** `value` is JSON. `modRevision` is the store revision of its last write, `createRevision` of its first. */
export interface StoreItem {
  readonly key: string;
  readonly value: unknown;
  readonly modRevision: number;
  readonly createRevision: number;
}

/** Holds while the key's last write has this revision; 0 means that the key must not exist. */
export interface Compare {
  readonly key: string;
  readonly modRevision: number;
}

export type StoreOp =
  | { readonly type: 'put'; readonly key: string; readonly value: unknown; readonly lease?: string }
  | { readonly type: 'delete'; readonly key: string };

export type TxnResult =
  | { readonly committed: true; readonly revision: number }
  /** Nothing was written; `conflicts` are the keys whose compare failed. */
  | { readonly committed: false; readonly revision: number; readonly conflicts: readonly string[] };

export type StoreEvent =
  | { readonly type: 'put'; readonly item: StoreItem }
  | { readonly type: 'delete'; readonly key: string; readonly modRevision: number };

/** One committed transaction's events under the watched prefix, in the order they were written. */
export interface WatchBatch {
  readonly revision: number;
  readonly events: readonly StoreEvent[];
}

/** Thrown by a watch whose start revision is no longer kept: the caller lists again and watches from there. */
export class Compacted extends Error {
  override readonly name = 'Compacted';
  readonly oldestRevision: number;
  constructor(oldestRevision: number) {
    super(`events before revision ${oldestRevision} are no longer kept`);
    this.oldestRevision = oldestRevision;
  }
}

export interface Lease {
  readonly id: string;
  readonly ttlMs: number;
}

export interface Store {
  get(key: string): Promise<StoreItem | undefined>;
  /** All items whose key starts with the prefix, in key order, and the revision they were read at. */
  list(prefix: string): Promise<{ items: readonly StoreItem[]; revision: number }>;
  /** All or nothing, durable when it resolves. A key may stand in at most one op. An empty op list writes nothing. */
  txn(compares: readonly Compare[], ops: readonly StoreOp[]): Promise<TxnResult>;
  /**
   * Every transaction after `fromRevision` that touched the prefix, also those of other processes, without a gap.
   * Ends when the signal aborts; throws `Compacted` when `fromRevision` is too old.
   */
  watch(prefix: string, fromRevision: number, signal: AbortSignal): AsyncIterable<WatchBatch>;
  /** Keys put under a lease vanish when it is not kept alive for `ttlMs`. */
  lease(ttlMs: number): Promise<Lease>;
  /** False when the lease has already ended. */
  keepAlive(leaseId: string): Promise<boolean>;
  revoke(leaseId: string): Promise<void>;
  close(): Promise<void>;
}
