/** What the store contract's tests share: the fixture that a driver brings, and short forms of what they do with it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Store, StoreEvent, WatchBatch } from '../../src/store/store.ts';

export interface StoreFixture {
  readonly store: Store;
  /** Closes the store and opens it again. */
  readonly reopen: () => Promise<Store>;
  /** A second handle on the same data, as another process would have it. */
  readonly openSecond: () => Promise<Store>;
  /** Driver and location for `child.ts`. */
  readonly child: readonly [driver: string, location: string];
  /** Closes every handle and removes the data. */
  readonly remove: () => Promise<void>;
}

export type OpenFixture = (options?: { readonly keepRevisions?: number }) => Promise<StoreFixture>;

/** A process of its own that writes to a store. */
export const CHILD = new URL('child.ts', import.meta.url).pathname;

type Body = (fixture: StoreFixture, signal: AbortSignal) => Promise<void>;

/** A test with an empty store of its own, removed afterwards. */
export function withStore(open: OpenFixture, title: string, body: Body, options?: { readonly keepRevisions: number }): void {
  test(title, async (t) => {
    const fixture = await open(options);
    try {
      await body(fixture, t.signal);
    } finally {
      await fixture.remove();
    }
  });
}

export function put(store: Store, key: string, value: unknown) {
  return store.txn([], [{ type: 'put', key, value }]);
}

/** The first batches of a watch. */
export async function take(watch: AsyncIterable<WatchBatch>, count: number): Promise<WatchBatch[]> {
  const batches: WatchBatch[] = [];
  for await (const batch of watch) {
    batches.push(batch);
    if (batches.length === count) break;
  }
  assert.equal(batches.length, count, 'the watch ended too early');
  return batches;
}

/** All batches until the watch ends. */
export async function drain(watch: AsyncIterable<WatchBatch>): Promise<WatchBatch[]> {
  const batches: WatchBatch[] = [];
  for await (const batch of watch) batches.push(batch);
  return batches;
}

/** The values that were put, in order; undefined for each deletion. */
export function values(batches: readonly WatchBatch[]): unknown[] {
  return batches.flatMap(({ events }) => events.map(valueOf));
}

function valueOf(event: StoreEvent): unknown {
  return event.type === 'put' ? event.item.value : undefined;
}
