/** Holds what was last observed of each workload and endpoint and tells who wants to know; it observes nothing itself. */
import { isDeepStrictEqual } from 'node:util';
import type { EndpointHealth, Observed, ObservedWorkload } from '../model/observed.ts';

export interface ObservedState {
  readonly state: Observed;
  set(workloadId: string, observed: ObservedWorkload): void;
  forget(workloadId: string): void;
  /** Of one endpoint of a service, which is named by its record key. */
  setHealth(service: string, health: { readonly address: string; readonly healthy: boolean }): void;
  /**
   * Of a service whose endpoints have changed: what is kept of its health, with what was healthy before anybody asked. Nobody is told,
   * for whoever calls this was told of the same change of the world.
   */
  replaceHealth(service: string, health: EndpointHealth): void;
  /** The record keys of services whose health has changed since the last call. */
  takeHealthChanges(): Iterable<string>;
  /** Called at once after a change, before it returns, with what it was of: a workload or the health of an endpoint. */
  onChange(listener: (what: 'workload' | 'health') => void): () => void;
}

export function createObservedState(): ObservedState {
  const workloads = new Map<string, ObservedWorkload>();
  const health = new Map<string, EndpointHealth>();
  const state = { generation: 0, workloads, health };
  let changedHealth = new Set<string>();
  const listeners = new Set<(what: 'workload' | 'health') => void>();
  const tell = (what: 'workload' | 'health'): void => {
    for (const listener of listeners) listener(what);
  };
  const changed = (): void => {
    state.generation += 1;
    tell('workload');
  };
  const replaceHealth = (service: string, after: EndpointHealth): void => {
    if (after.size === 0) health.delete(service);
    else health.set(service, after);
    changedHealth.add(service);
  };
  return {
    state,
    set: (workloadId, observed) => {
      if (isDeepStrictEqual(workloads.get(workloadId), observed)) return;
      workloads.set(workloadId, observed);
      changed();
    },
    forget: (workloadId) => {
      if (workloads.delete(workloadId)) changed();
    },
    setHealth: (service, { address, healthy }) => {
      const before = health.get(service);
      if (before?.get(address) === healthy) return;
      replaceHealth(service, new Map(before).set(address, healthy));
      tell('health');
    },
    replaceHealth,
    takeHealthChanges: () => {
      const taken = changedHealth;
      changedHealth = new Set();
      return taken;
    },
    onChange: (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}
