/** Which changes are told, how they are gathered, and that nothing is left behind by those who stop listening. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { openChanges, type Change } from '../../src/observed/changes.ts';
import { aService, desired } from '../compile/state.ts';

const QUIET_MS = 500;

interface World {
  readonly changes: ReturnType<typeof openChanges>;
  readonly wrote: (...keys: string[]) => void;
  readonly reread: () => void;
  readonly observed: () => void;
  /** Makes the endpoints of a service others. */
  readonly moved: (key: string) => void;
  readonly listeners: () => number;
}

function world(...names: string[]): World {
  const state = desired({ services: names.map((name) => aService({ name })) });
  const endpoints = new Map<unknown, readonly never[]>();
  const told = { store: new Set<(keys: readonly string[] | undefined) => void>(), observed: new Set<() => void>() };
  const changes = openChanges({
    view: { state, onChange: (listener) => listen(told.store, listener) },
    observed: { onChange: (listener) => listen(told.observed, listener) },
    endpointsOf: (of) => endpoints.get(of) ?? NONE,
  });
  return {
    changes,
    wrote: (...keys) => told.store.forEach((listener) => listener(keys)),
    reread: () => told.store.forEach((listener) => listener(undefined)),
    observed: () => told.observed.forEach((listener) => listener()),
    moved: (key) => void endpoints.set(state.services.get(key), []),
    listeners: () => told.store.size + told.observed.size,
  };
}

const NONE: readonly never[] = [];

function listen<Listener>(all: Set<Listener>, listener: Listener): () => void {
  all.add(listener);
  return () => void all.delete(listener);
}

/** What is told to one listener, until stopped. */
function collect({ changes }: World): { told: Change[]; stop: () => Promise<void> } {
  const stopping = new AbortController();
  const told: Change[] = [];
  const ended = (async () => {
    for await (const change of changes.follow(stopping.signal)) told.push(change);
  })();
  return {
    told,
    stop: async () => {
      stopping.abort();
      await ended;
    },
  };
}

test('it begins with what may be anything, and then tells what was written, together and without addresses', async () => {
  const here = world('web');
  const { told, stop } = collect(here);
  await delay(QUIET_MS);
  assert.deepEqual(told.splice(0).map(({ keys }) => keys), [undefined], 'nothing is told without a change');
  here.wrote('services/default/web', 'ipam/clusterip/10.201.0.1');
  here.wrote('policies/default/db');
  here.wrote('ipam/cursor/clusterip');
  await delay(QUIET_MS);
  assert.deepEqual(told.splice(0).map(({ keys }) => keys), [['policies/default/db', 'services/default/web']]);
  here.wrote('ipam/cursor/clusterip');
  await delay(QUIET_MS);
  assert.deepEqual(told, []);
  await stop();
});

test('what is observed is told with the services whose endpoints it changed, and of no other', async () => {
  const here = world('web', 'other');
  const { told, stop } = collect(here);
  await delay(50);
  told.length = 0;
  here.observed();
  await delay(QUIET_MS);
  here.moved('services/default/web');
  here.observed();
  await delay(QUIET_MS);
  here.changes.nodeChanged();
  await delay(QUIET_MS);
  assert.deepEqual(told.map(({ keys }) => keys), [[], ['services/default/web'], []]);
  await stop();
});

test('a store that was read again may have changed in anything; so may one with very many changes', async () => {
  const here = world();
  const { told, stop } = collect(here);
  await delay(50);
  told.length = 0;
  here.wrote('services/default/web');
  here.reread();
  await delay(QUIET_MS);
  here.wrote(...Array.from({ length: 1_001 }, (_, index) => `workloads/default/w-${index}`));
  here.wrote('services/default/web');
  await delay(QUIET_MS);
  assert.deepEqual(told.map(({ keys }) => keys), [undefined, undefined]);
  await stop();
});

test('changes without pause are told a few times a second', async () => {
  const here = world();
  const { told, stop } = collect(here);
  for (let step = 0; step < 100; step += 1) {
    here.wrote(`services/default/s-${step}`);
    await delay(10);
  }
  await delay(QUIET_MS);
  await stop();
  assert.ok(told.length >= 4 && told.length <= 14, `${told.length} times`);
  assert.equal(new Set(told.flatMap(({ keys = [] }) => keys)).size, 100, 'and none is missed');
});

test('a listener that is slow is told everything at once when it comes back', async () => {
  const here = world();
  const stopping = new AbortController();
  const changes = here.changes.follow(stopping.signal)[Symbol.asyncIterator]();
  await changes.next();
  for (const name of ['a', 'b', 'c']) {
    here.wrote(`services/default/${name}`);
    await delay(QUIET_MS / 2);
  }
  const { value } = await changes.next();
  assert.deepEqual(value, { revision: value?.revision, keys: ['services/default/a', 'services/default/b', 'services/default/c'] });
  stopping.abort();
  assert.equal((await changes.next()).done, true);
});

test('after the last listener nothing is gathered, and a later one hears of nothing that was before', async () => {
  const here = world('web');
  const first = collect(here);
  await delay(50);
  here.wrote('services/default/web');
  await first.stop();
  here.moved('services/default/web');
  here.observed();
  await delay(QUIET_MS);
  const second = collect(here);
  await delay(QUIET_MS);
  assert.deepEqual(second.told.map(({ keys }) => keys), [undefined]);
  await second.stop();
  here.changes.close();
  assert.equal(here.listeners(), 0);
});
