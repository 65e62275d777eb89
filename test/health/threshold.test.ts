/** The thresholds against an oracle that looks at the whole history anew each time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { gapMs } from '../../src/health/gap.ts';
import { judge, type Standing, type Thresholds } from '../../src/health/threshold.ts';

const thresholds = fc.record({ failures: fc.integer({ min: 1, max: 5 }), successes: fc.integer({ min: 1, max: 5 }) });
const start = fc.constantFrom(undefined, true, false);

test('healthy after so many successes in a row, unhealthy after so many failures in a row, else as before', () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { minLength: 1, maxLength: 60 }), thresholds, start, (history, limits, healthy) => {
      let standing: Standing = { healthy, streak: 0 };
      for (const [index, succeeded] of history.entries()) {
        standing = judge(standing, succeeded, limits);
        assert.equal(standing.healthy, oracle(history.slice(0, index + 1), limits, healthy));
      }
    }),
    { numRuns: 2000 },
  );
});

test('a new target is unhealthy until it has proved itself, and undefined only before its first result', () => {
  const limits = { failures: 1, successes: 3 };
  let standing: Standing = { healthy: undefined, streak: 0 };
  const seen = [true, true, true, false].map((succeeded) => (standing = judge(standing, succeeded, limits)).healthy);
  assert.deepEqual(seen, [false, false, true, false]);
});

test('the streak stays below the threshold and is gone after a turn', () => {
  const limits = { failures: 3, successes: 2 };
  const first = judge({ healthy: true, streak: 0 }, false, limits);
  const second = judge(first, false, limits);
  const third = judge(second, false, limits);
  assert.deepEqual([first, second, third], [{ healthy: true, streak: 1 }, { healthy: true, streak: 2 }, { healthy: false, streak: 0 }]);
  assert.deepEqual(judge(second, true, limits), { healthy: true, streak: 0 });
});

test('the first gap is any part of the interval, later ones differ from it by a tenth at most', () => {
  const randoms = [0, 0.25, 0.5, 0.75];
  assert.deepEqual(randoms.map((random) => gapMs(1000, { first: true, random })), [0, 250, 500, 750]);
  assert.deepEqual(randoms.map((random) => Math.round(gapMs(1000, { first: false, random }))), [900, 950, 1000, 1050]);
});

/** The latest moment at which the last results were all alike and enough decides; before the first such one, what was known. */
function oracle(history: readonly boolean[], { failures, successes }: Thresholds, known: boolean | undefined): boolean {
  for (let end = history.length; end > 0; end--) {
    if (allOf(history.slice(0, end), successes, true)) return true;
    if (allOf(history.slice(0, end), failures, false)) return false;
  }
  return known ?? false;
}

function allOf(history: readonly boolean[], count: number, value: boolean): boolean {
  const last = history.slice(-count);
  return last.length === count && last.every((result) => result === value);
}
