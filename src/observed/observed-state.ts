/** Holds what was last observed of each workload and tells who wants to know; it observes nothing itself. */
import { isDeepStrictEqual } from 'node:util';
import type { Observed, ObservedWorkload } from '../model/observed.ts';

export interface ObservedState {
  readonly state: Observed;
  set(workloadId: string, observed: ObservedWorkload): void;
  forget(workloadId: string): void;
  /** Called at once after a change, before `set` returns. */
  onChange(listener: (workloadId: string) => void): () => void;
}

export function createObservedState(): ObservedState {
  const workloads = new Map<string, ObservedWorkload>();
  const state = { generation: 0, workloads };
  const listeners = new Set<(workloadId: string) => void>();
  const changed = (workloadId: string): void => {
    state.generation += 1;
    for (const listener of listeners) listener(workloadId);
  };
  return {
    state,
    set: (workloadId, observed) => {
      if (isDeepStrictEqual(workloads.get(workloadId), observed)) return;
      workloads.set(workloadId, observed);
      changed(workloadId);
    },
    forget: (workloadId) => {
      if (workloads.delete(workloadId)) changed(workloadId);
    },
    onChange: (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}
