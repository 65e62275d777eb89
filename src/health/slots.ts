/** Bounds how many probes run at once, and keeps dead targets from holding up the living; it never probes. */

export interface Slots {
  /**
   * Waits for a free slot and returns the function that frees it. Urgent callers go first, and the others get at most half of all
   * slots: probes of dead targets last until they time out, and a living one that dies must be noticed all the same.
   * Rejects with the signal's reason when it aborts.
   */
  readonly take: (options: { urgent: boolean; signal: AbortSignal }) => Promise<() => void>;
}

/** `most` is at least 1. */
export function createSlots(most: number): Slots {
  const mostPatient = Math.ceil(most / 2);
  const urgentQueue = new Set<() => void>();
  const patientQueue = new Set<() => void>();
  const taken = { all: 0, patient: 0 };
  const fill = (): void => {
    for (const start of urgentQueue) {
      if (taken.all >= most) return;
      urgentQueue.delete(start);
      start();
    }
    for (const start of patientQueue) {
      if (taken.all >= most || taken.patient >= mostPatient) return;
      patientQueue.delete(start);
      start();
    }
  };
  return {
    take: async ({ urgent, signal }) => {
      signal.throwIfAborted();
      const weight = urgent ? 0 : 1;
      const queue = urgent ? urgentQueue : patientQueue;
      const { promise, resolve, reject } = Promise.withResolvers<() => void>();
      const start = (): void => {
        taken.all += 1;
        taken.patient += weight;
        signal.removeEventListener('abort', leave);
        resolve(() => {
          taken.all -= 1;
          taken.patient -= weight;
          fill();
        });
      };
      const leave = (): void => {
        queue.delete(start);
        reject(signal.reason);
      };
      signal.addEventListener('abort', leave, { once: true });
      queue.add(start);
      fill();
      return promise;
    },
  };
}
