/** The contract that every store driver must pass: items, transactions, watches, leases; it knows no driver. */
import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { ClawError } from '../../src/errors.ts';
import type { Store } from '../../src/store/store.ts';
import { describeLeases } from './contract-lease.ts';
import { describeWatches } from './contract-watch.ts';
import { put, take, values, withStore, type OpenFixture } from './fixture.ts';

/** Runs the whole contract on stores that `open` makes. */
export function describeStore(name: string, open: OpenFixture): void {
  describe(`${name}: the store's contract`, { timeout: 120_000 }, () => {
    describeTransactions(open);
    describeWatches(open);
    describeLeases(open);
  });
}

function describeTransactions(open: OpenFixture): void {
  describe('items and transactions', () => {
    withStore(open, 'an empty store has nothing and revision 0', async ({ store }) => {
      assert.equal(await store.get('a'), undefined);
      assert.deepEqual(await store.list(''), { items: [], revision: 0 });
      assert.deepEqual(await store.txn([], []), { committed: true, revision: 0 });
    });

    withStore(open, 'a value reads back as its JSON, with the revisions of its first and last write', async ({ store, reopen }) => {
      const value = { text: 'ä \u0000 \ud83d\ude00', list: [1, null, true], nested: { a: {} } };
      await put(store, 'a', 1);
      await put(store, 'b', 2);
      await put(store, 'a', value);
      const expected = { key: 'a', value, modRevision: 3, createRevision: 1 };
      assert.deepEqual(await store.get('a'), expected);
      assert.deepEqual(await (await reopen()).get('a'), expected);
    });

    withStore(open, 'a key made again after its deletion has a new createRevision', async ({ store }) => {
      await put(store, 'a', 1);
      await store.txn([], [{ type: 'delete', key: 'a' }]);
      await put(store, 'a', 2);
      assert.deepEqual(await store.get('a'), { key: 'a', value: 2, modRevision: 3, createRevision: 3 });
    });

    withStore(open, 'list gives exactly the keys with the prefix, in the order of their UTF-8 bytes', async ({ store }) => {
      const keys = ['a', 'a/', 'a/1', 'a/10', 'a/2', 'a/\u{10ffff}', 'a/\u{10ffff}z', 'a/\u{1f600}', 'a/\uffff', 'a0', 'b', '\u{10ffff}', '\ud7ff', '\ue000'];
      await store.txn(
        [],
        keys.map((key) => ({ type: 'put', key, value: key })),
      );
      for (const prefix of ['', 'a', 'a/', 'a/1', 'a/\u{10ffff}', 'c', '\u{10ffff}', '\ud7ff']) {
        const { items } = await store.list(prefix);
        const expected = keys.filter((key) => key.startsWith(prefix)).toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
        assert.deepEqual(
          items.map(({ key }) => key),
          expected,
          JSON.stringify(prefix),
        );
      }
    });

    withStore(open, 'the revision grows by one with each transaction that writes, and only then', async ({ store }) => {
      assert.equal((await put(store, 'a', 1)).revision, 1);
      assert.equal((await store.txn([{ key: 'a', modRevision: 1 }], [])).revision, 1);
      assert.equal((await store.txn([{ key: 'a', modRevision: 9 }], [{ type: 'delete', key: 'a' }])).revision, 1);
      assert.equal((await store.txn([], [{ type: 'delete', key: 'absent' }])).revision, 1);
      const many = await store.txn([], ['b', 'c', 'd'].map((key) => ({ type: 'put', key, value: 0 })));
      assert.equal(many.revision, 2);
      assert.deepEqual((await store.list('')).revision, 2);
    });

    withStore(open, 'compares: 0 means absent, and every failed one is named', async ({ store }) => {
      assert.deepEqual(await create(store, 'a', 1), { committed: true, revision: 1 });
      assert.deepEqual(await create(store, 'a', 2), { committed: false, revision: 1, conflicts: ['a'] });
      const result = await store.txn(
        [
          { key: 'a', modRevision: 1 },
          { key: 'b', modRevision: 1 },
          { key: 'a', modRevision: 0 },
          { key: 'b', modRevision: 7 },
        ],
        [{ type: 'put', key: 'c', value: 1 }],
      );
      assert.deepEqual(result, { committed: false, revision: 1, conflicts: ['b', 'a'] });
      assert.equal(await store.get('c'), undefined);
      assert.equal((await store.txn([{ key: 'a', modRevision: 1 }], [{ type: 'delete', key: 'a' }])).committed, true);
      assert.equal((await create(store, 'a', 3)).committed, true);
    });

    withStore(open, 'a transaction that cannot be written as a whole writes nothing', async ({ store }) => {
      const bad = [{ type: 'put', key: 'b', value: undefined }, { type: 'put', key: 'a', value: 2 }, { type: 'put', key: '', value: 2 }] as const;
      for (const op of bad) {
        await assert.rejects(store.txn([], [{ type: 'put', key: 'a', value: 1 }, op]), ClawError);
      }
      await assert.rejects(store.txn([], [{ type: 'put', key: 'a', value: 1 }, { type: 'put', key: 'b', value: 1, lease: 'unknown' }]), ClawError);
      await assert.rejects(put(store, 'half \ud800', 1), ClawError);
      await assert.rejects(store.list('half \ud800'), ClawError);
      assert.deepEqual(await store.list(''), { items: [], revision: 0 });
    });

    withStore(open, 'a caller that changes its value afterwards changes nothing in the store or in events', async ({ store }, signal) => {
      const value = { n: 1 };
      const events = take(store.watch('', 0, signal), 1);
      const written = put(store, 'a', value);
      value.n = 2;
      await written;
      assert.deepEqual((await store.get('a'))?.value, { n: 1 });
      assert.deepEqual(values(await events), [{ n: 1 }]);
    });
  });
}

function create(store: Store, key: string, value: unknown) {
  return store.txn([{ key, modRevision: 0 }], [{ type: 'put', key, value }]);
}
