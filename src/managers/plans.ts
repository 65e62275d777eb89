/** Carries out plans one after another: worked out, written by compare-and-set, worked out again when another agent was faster. */
import { ClawError } from '../errors.ts';
import type { Store } from '../store/store.ts';
import type { DesiredView } from './desired-view.ts';
import type { Plan, World } from './world.ts';

const MAX_ATTEMPTS = 10;

/** `World.mutate` for this store and view. */
export function createMutate(store: Pick<Store, 'txn'>, view: DesiredView): World['mutate'] {
  let tail: Promise<unknown> = Promise.resolve();

  const attempt = async <Answer>(plan: () => Plan<Answer>): Promise<{ answer: Answer; revision: number }> => {
    for (let attempts = 0; attempts < MAX_ATTEMPTS; attempts += 1) {
      const { compares, ops, answer } = plan();
      const result = await store.txn(compares, ops);
      await view.reached(result.revision);
      if (result.committed) return { answer, revision: result.revision };
    }
    throw new ClawError('CONFLICT', `the change lost ${MAX_ATTEMPTS} times against changes by other agents`, { hint: 'Try again.' });
  };

  return (plan) => {
    const mine = tail.then(() => attempt(plan));
    // The next plan runs after this one, however this one ended; who asked for this one gets its error.
    tail = mine.catch(() => undefined);
    return mine;
  };
}
