/** Slots: never more than allowed, urgent callers first, the others never with more than half, nothing lost by an abort. */
import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { createSlots } from '../../src/health/slots.ts';

const never = new AbortController().signal;

test('random callers that come, go and give up: bounds hold, and everyone who stays gets a turn', async () => {
  const caller = fc.record({ urgent: fc.boolean(), stays: fc.integer({ min: 0, max: 3 }), abortAfter: fc.option(fc.integer({ min: 0, max: 5 })) });
  await fc.assert(
    fc.asyncProperty(fc.array(caller, { maxLength: 40 }), fc.integer({ min: 1, max: 6 }), async (callers, most) => {
      const slots = createSlots(most);
      const held = { all: 0, patient: 0 };
      const run = async ({ urgent, stays, abortAfter }: (typeof callers)[number]): Promise<'served' | 'gave up'> => {
        const stop = new AbortController();
        const giveUp = async (): Promise<void> => {
          for (let turns = 0; turns < (abortAfter ?? 0); turns++) await turn();
          if (abortAfter !== null) stop.abort();
        };
        const givenUp = giveUp();
        try {
          const free = await slots.take({ urgent, signal: stop.signal });
          held.all += 1;
          held.patient += urgent ? 0 : 1;
          assert.ok(held.all <= most && held.patient <= Math.ceil(most / 2));
          for (let turns = 0; turns < stays; turns++) await turn();
          held.all -= 1;
          held.patient -= urgent ? 0 : 1;
          free();
          return 'served';
        } catch (error) {
          assert.equal(error, stop.signal.reason);
          return 'gave up';
        } finally {
          await givenUp;
        }
      };
      const ends = await Promise.all(callers.map(run));
      assert.ok(callers.every(({ abortAfter }, index) => abortAfter !== null || ends[index] === 'served'));
      // All are free again: so many can be taken at once.
      await Promise.all(Array.from({ length: most }, async () => slots.take({ urgent: true, signal: never })));
    }),
    { numRuns: 150 },
  );
});

test('an urgent caller overtakes those who wait, and patient ones leave it half of the slots', async () => {
  const slots = createSlots(4);
  const order: string[] = [];
  const take = async (name: string, urgent: boolean): Promise<() => void> => {
    const free = await slots.take({ urgent, signal: never });
    order.push(name);
    return free;
  };
  const patient = [take('p1', false), take('p2', false), take('p3', false)];
  const urgent = [take('u1', true), take('u2', true), take('u3', true)];
  await turn();
  assert.deepEqual(order, ['p1', 'p2', 'u1', 'u2']);
  (await patient[0])?.();
  await turn();
  assert.deepEqual(order, ['p1', 'p2', 'u1', 'u2', 'u3']);
  for (const free of await Promise.all(urgent)) free();
  await patient[2];
  assert.equal(order.at(-1), 'p3');
});

test('a signal that has aborted before takes nothing', async () => {
  const slots = createSlots(1);
  await assert.rejects(slots.take({ urgent: true, signal: AbortSignal.abort(new Error('gone')) }), /gone/);
  assert.equal(typeof (await slots.take({ urgent: true, signal: never })), 'function');
});
