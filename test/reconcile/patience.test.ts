/** Bursts become few acts, none is forgotten, and endless requests are slowed down. */
import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { patiently } from '../../src/reconcile/patience.ts';

test('a burst is one act, and a request while it runs is one more', async () => {
  let acts = 0;
  const patience = patiently({
    act: async () => {
      acts += 1;
      if (acts === 1) for (let count = 0; count < 10; count += 1) patience.request();
      await sleep(5);
    },
    quietMs: 10,
  });
  for (let count = 0; count < 100; count += 1) patience.request();
  await sleep(300);
  assert.equal(acts, 2);
  await patience.close();
});

test('requests without end are served more and more slowly', async () => {
  let acts = 0;
  const patience = patiently({
    act: async () => {
      acts += 1;
    },
    quietMs: 0,
  });
  for (const deadline = performance.now() + 1_500; performance.now() < deadline; await sleep(1)) patience.request();
  assert.ok(acts >= 10 && acts < 60, `${acts} acts`);
  await patience.close();
});

test('after close nothing begins, and what runs has ended', async () => {
  let [begun, ended] = [0, 0];
  const patience = patiently({
    act: async () => {
      begun += 1;
      await sleep(30);
      ended += 1;
    },
    quietMs: 0,
  });
  patience.request();
  await sleep(15);
  await patience.close();
  patience.request();
  await sleep(30);
  assert.deepEqual([begun, ended], [begun, begun]);
  assert.ok(begun <= 1);
});
