/** An agent's changes as a test makes them, and how many listen to them. */
import type { Change } from '../../src/observed/changes.ts';

export function scriptedChanges() {
  const listeners = new Set<(change: Change) => void>();
  let begun = 0;
  return {
    begun: () => begun,
    listening: () => listeners.size,
    tell: (keys?: readonly string[]) => listeners.forEach((listener) => listener({ revision: 1, ...(keys === undefined ? {} : { keys }) })),
    changes: async function* (this: void, signal: AbortSignal): AsyncGenerator<Change> {
      begun += 1;
      const waiting: Change[] = [{ revision: 1 }];
      let wake = Promise.withResolvers<void>();
      const listener = (change: Change): void => {
        waiting.push(change);
        wake.resolve();
      };
      listeners.add(listener);
      signal.addEventListener('abort', () => wake.resolve(), { once: true });
      try {
        while (!signal.aborted) {
          const next = waiting.shift();
          if (next !== undefined) yield next;
          else {
            await wake.promise;
            wake = Promise.withResolvers();
          }
        }
      } finally {
        listeners.delete(listener);
      }
    },
  };
}
