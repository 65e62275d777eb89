/** Holds what was last observed of each workload and endpoint and tells who wants to know; it observes nothing itself. */
import { isDeepStrictEqual } from 'node:util';
import type { Observed, ObservedWorkload } from '../model/observed.ts';

export interface ObservedState {
  readonly state: Observed;
  set(workloadId: string, observed: ObservedWorkload): void;
  forget(workloadId: string): void;
  /** By `healthKey`. */
  setHealth(key: string, healthy: boolean): void;
  /** Health that was there before anybody asked for it. Nobody is told: whoever calls it is told of the same change of the world. */
  presumeHealthy(keys: readonly string[]): void;
  /** Of what is no endpoint any more: nobody is told. */
  forgetHealth(keys: Iterable<string>): void;
  /** Called at once after a change, before it returns, with what it was of: a workload or the health of an endpoint. */
  onChange(listener: (what: 'workload' | 'health') => void): () => void;
}

export function createObservedState(): ObservedState {
  const workloads = new Map<string, ObservedWorkload>();
  const health = new Map<string, boolean>();
  const state = { generation: 0, workloads, health };
  const listeners = new Set<(what: 'workload' | 'health') => void>();
  const changed = (what: 'workload' | 'health'): void => {
    state.generation += 1;
    for (const listener of listeners) listener(what);
  };
  return {
    state,
    set: (workloadId, observed) => {
      if (isDeepStrictEqual(workloads.get(workloadId), observed)) return;
      workloads.set(workloadId, observed);
      changed('workload');
    },
    forget: (workloadId) => {
      if (workloads.delete(workloadId)) changed('workload');
    },
    setHealth: (key, healthy) => {
      if (health.get(key) === healthy) return;
      health.set(key, healthy);
      changed('health');
    },
    presumeHealthy: (keys) => {
      if (keys.length === 0) return;
      for (const key of keys) health.set(key, true);
      state.generation += 1;
    },
    forgetHealth: (keys) => {
      for (const key of keys) health.delete(key);
    },
    onChange: (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}
