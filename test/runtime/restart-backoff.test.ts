/** Restart delays double to a bound, and start over after a long run. */
import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { nextDelayMs } from '../../src/runtime/restart-backoff.ts';

test('delays double from 100 ms to 10 s and start over after 10 s of running', () => {
  const delays: number[] = [];
  for (let count = 0; count < 9; count++) delays.push(nextDelayMs(delays.at(-1), 50));
  assert.deepEqual(delays, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
  assert.equal(nextDelayMs(10_000, 9999), 10_000);
  assert.equal(nextDelayMs(10_000, 10_000), 100);
});
