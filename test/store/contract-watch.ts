/** The store contract's part on watches and on several handles and processes; it knows no driver. */
import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../src/drivers/exec.ts';
import { ClawError } from '../../src/errors.ts';
import { Compacted, type Store } from '../../src/store/store.ts';
import { CHILD, drain, put, take, values, withStore, type OpenFixture } from './fixture.ts';

export function describeWatches(open: OpenFixture): void {
  describe('watches, handles and processes', () => {
    withStore(open, 'a watch begins in the past and goes on in the present, one batch per transaction', async ({ store }, signal) => {
      await put(store, 'a/1', 'one');
      await put(store, 'b/1', 'other');
      const watched = take(store.watch('a/', 0, signal), 3);
      await sleep(30);
      await store.txn(
        [],
        [
          { type: 'put', key: 'a/3', value: 3 },
          { type: 'delete', key: 'b/1' },
          { type: 'delete', key: 'a/1' },
        ],
      );
      await store.txn([], [{ type: 'delete', key: 'a/1' }]);
      await put(store, 'a/3', 33);
      assert.deepEqual(await watched, [
        { revision: 1, events: [{ type: 'put', item: { key: 'a/1', value: 'one', modRevision: 1, createRevision: 1 } }] },
        {
          revision: 3,
          events: [
            { type: 'put', item: { key: 'a/3', value: 3, modRevision: 3, createRevision: 3 } },
            { type: 'delete', key: 'a/1', modRevision: 3 },
          ],
        },
        { revision: 4, events: [{ type: 'put', item: { key: 'a/3', value: 33, modRevision: 4, createRevision: 3 } }] },
      ]);
    });

    withStore(open, 'a watch from a past revision leaves out what came up to it', async ({ store }, signal) => {
      for (let index = 0; index < 5; index += 1) await put(store, 'a', index);
      assert.deepEqual(values(await take(store.watch('', 3, signal), 2)), [3, 4]);
    });

    withStore(open, 'a watch far behind catches up without a gap while writes go on', async ({ store }, signal) => {
      for (let index = 0; index < 1100; index += 1) await put(store, 'a', index);
      const watched = take(store.watch('', 0, signal), 1200);
      for (let index = 1100; index < 1200; index += 1) await put(store, 'a', index);
      assert.deepEqual(values(await watched), Array.from({ length: 1200 }, (_, index) => index));
    });

    withStore(open, 'a watch ends when its signal aborts, also one that shares the signal', async ({ store }) => {
      const controller = new AbortController();
      const ends = [drain(store.watch('', 0, controller.signal)), drain(store.watch('a', 0, controller.signal))];
      await put(store, 'a', 1);
      await sleep(30);
      controller.abort();
      assert.deepEqual((await Promise.all(ends)).map((batches) => batches.length), [1, 1]);
      assert.deepEqual(await drain(store.watch('', 0, controller.signal)), []);
    });

    withStore(open, 'leaving one watch ends nothing for another', async ({ store }, signal) => {
      const both = take(store.watch('', 0, signal), 2);
      const one = take(store.watch('', 0, signal), 1);
      await put(store, 'a', 1);
      await one;
      await put(store, 'a', 2);
      assert.deepEqual(values(await both), [1, 2]);
    });

    withStore(open, 'a watch from a revision that the store has not reached is an error', async ({ store }, signal) => {
      await put(store, 'a', 1);
      await assert.rejects(drain(store.watch('', 2, signal)), ClawError);
    });

    withStore(
      open,
      'a watch from before the kept revisions throws Compacted, and listing again helps',
      async ({ store, reopen }, signal) => {
        for (let index = 1; index <= 300; index += 1) await put(store, `k/${index % 7}`, index);
        const again = await reopen();
        const oldest = await oldestRevision(again, signal);
        assert.ok(oldest > 200 && oldest <= 281, `oldest is ${oldest}`);
        // The oldest revision that is kept can still be read: a watch from the one before it has no gap.
        assert.deepEqual(values(await take(again.watch('', oldest - 1, signal), 301 - oldest)), Array.from({ length: 301 - oldest }, (_, index) => oldest + index));
        await assert.rejects(drain(again.watch('', oldest - 2, signal)), Compacted);
        const { items, revision } = await again.list('k/');
        assert.deepEqual([items.length, revision], [7, 300]);
      },
      { keepRevisions: 20 },
    );

    withStore(open, 'a second handle sees every write, and a watch carries both handles\' writes in order', async ({ store, openSecond }, signal) => {
      const second = await openSecond();
      const watches = [take(store.watch('', 0, signal), 60), take(second.watch('', 0, signal), 60)];
      await Promise.all([
        (async () => {
          for (let index = 0; index < 30; index += 1) await put(store, `mine/${index}`, index);
        })(),
        (async () => {
          for (let index = 0; index < 30; index += 1) await put(second, `theirs/${index}`, index);
        })(),
      ]);
      for (const batches of await Promise.all(watches)) {
        assert.deepEqual(
          batches.map(({ revision }) => revision),
          Array.from({ length: 60 }, (_, index) => index + 1),
        );
      }
      assert.deepEqual(await store.list(''), await second.list(''));
    });

    withStore(open, 'a watch carries what another process writes', async ({ store, child }, signal) => {
      const watched = take(store.watch('theirs/', 0, signal), 50);
      await Promise.all([
        run([process.execPath, CHILD, ...child, 'put', 'theirs', '50'], { signal, timeoutMs: 60_000 }),
        (async () => {
          for (let index = 0; index < 50; index += 1) await put(store, `mine/${index}`, index);
        })(),
      ]);
      const batches = await watched;
      assert.deepEqual(values(batches), Array.from({ length: 50 }, (_, index) => index));
      const revisions = batches.map(({ revision }) => revision);
      assert.deepEqual(revisions, revisions.toSorted((a, b) => a - b));
      assert.equal((await store.list('')).revision, 100);
    });

    withStore(open, 'parallel increments by compare-and-set lose none, in one process and across three', async ({ store, openSecond, child }, signal) => {
      const second = await openSecond();
      await Promise.all([
        ...Array.from({ length: 10 }, (_, index) => increment(index % 2 === 0 ? store : second, 'counter')),
        ...Array.from({ length: 2 }, () => run([process.execPath, CHILD, ...child, 'increment', 'counter', '40'], { signal, timeoutMs: 60_000 })),
      ]);
      assert.equal((await store.get('counter'))?.value, 90);
      assert.equal((await store.list('')).revision, 90);
    });
  });
}

async function increment(store: Store, key: string): Promise<void> {
  for (;;) {
    const item = await store.get(key);
    const value = Number(item?.value ?? 0) + 1;
    const result = await store.txn([{ key, modRevision: item?.modRevision ?? 0 }], [{ type: 'put', key, value }]);
    if (result.committed) return;
  }
}

/** What a watch from the very beginning says is still kept. */
async function oldestRevision(store: Store, signal: AbortSignal): Promise<number> {
  try {
    await drain(store.watch('', 0, signal));
  } catch (error) {
    if (error instanceof Compacted) return error.oldestRevision;
    throw error;
  }
  throw new Error('the watch did not throw Compacted');
}
