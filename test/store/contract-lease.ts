/** The store contract's part on leases and on closing; it knows no driver. */
import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ClawError } from '../../src/errors.ts';
import { drain, put, take, withStore, type OpenFixture } from './fixture.ts';

export function describeLeases(open: OpenFixture): void {
  describe('leases and close', () => {
    withStore(open, 'keys of a lease vanish when it is not kept alive, as one event', async ({ store, openSecond }, signal) => {
      const second = await openSecond();
      const { id, ttlMs } = await store.lease(1_000);
      assert.equal(ttlMs, 1_000);
      await store.txn([], ['a', 'b'].map((key) => ({ type: 'put', key, value: key, lease: id })));
      await put(store, 'c', 'stays');
      const [batch] = await take(second.watch('', 2, signal), 1);
      assert.deepEqual(batch, { revision: 3, events: [{ type: 'delete', key: 'a', modRevision: 3 }, { type: 'delete', key: 'b', modRevision: 3 }] });
      assert.deepEqual((await store.list('')).items.map(({ key }) => key), ['c']);
      assert.equal(await store.keepAlive(id), false);
      await assert.rejects(store.txn([], [{ type: 'put', key: 'a', value: 1, lease: id }]), ClawError);
    });

    withStore(open, 'a lease that is kept alive holds its keys, and revoking it ends them', async ({ store, openSecond }) => {
      const { id } = await store.lease(3_000);
      await store.txn([], [{ type: 'put', key: 'a', value: 1, lease: id }]);
      const second = await openSecond();
      for (let turn = 0; turn < 7; turn += 1) {
        await sleep(500);
        assert.equal(await second.keepAlive(id), true);
      }
      assert.equal((await store.get('a'))?.value, 1);
      await second.revoke(id);
      assert.equal(await store.get('a'), undefined);
      assert.equal(await store.keepAlive(id), false);
      await store.revoke(id);
      assert.equal((await store.list('')).revision, 2);
    });

    withStore(open, 'a key written again without the lease outlives it', async ({ store }) => {
      const { id } = await store.lease(60_000);
      await store.txn([], ['a', 'b'].map((key) => ({ type: 'put', key, value: 1, lease: id })));
      await put(store, 'a', 2);
      await store.revoke(id);
      assert.deepEqual((await store.list('')).items.map(({ key }) => key), ['a']);
    });

    withStore(open, 'a lease goes on without its process: it ends by its time after a restart too', async ({ store, reopen }, signal) => {
      const { id } = await store.lease(1_000);
      await store.txn([], [{ type: 'put', key: 'a', value: 1, lease: id }]);
      const again = await reopen();
      const [batch] = await take(again.watch('', 1, signal), 1);
      assert.deepEqual(batch?.events, [{ type: 'delete', key: 'a', modRevision: 2 }]);
    });

    withStore(open, 'close ends watches, finishes what was asked before and refuses what comes after', async ({ store, openSecond }, signal) => {
      const watched = drain(store.watch('', 0, signal));
      const written = [put(store, 'a', 0), put(store, 'a', 1)];
      await Promise.all([store.close(), store.close()]);
      assert.deepEqual(await Promise.all(written), [{ committed: true, revision: 1 }, { committed: true, revision: 2 }]);
      await watched;
      await assert.rejects(store.get('a'), ClawError);
      await assert.rejects(put(store, 'a', 2), ClawError);
      assert.deepEqual(await drain(store.watch('', 0, signal)), []);
      assert.equal((await (await openSecond()).get('a'))?.value, 1);
    });
  });
}
