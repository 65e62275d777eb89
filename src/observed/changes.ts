/** Tells those who listen which objects of this node have changed, a few times a second at most: their names, never what they are now. */
import type { EndpointsOf } from '../compile/endpoints.ts';
import type { Desired, Endpoint } from '../model/observed.ts';

export interface Change {
  /** That of the store. */
  readonly revision: number;
  /**
   * Record keys, e.g. `services/default/web`: written, deleted, or a service with other endpoints. Empty when only the state of
   * the node or of a workload is another; absent when anything may have changed.
   */
  readonly keys?: readonly string[];
}

export interface Changes {
  /** Begins at once with a change without keys: from here on nothing is missed. Ends with the signal. */
  follow(signal: AbortSignal): AsyncIterable<Change>;
  /** The state of the node itself has changed, e.g. whether its kernel is in line. */
  nodeChanged(): void;
  close(): void;
}

export interface ChangeSources {
  readonly view: { readonly state: Desired; onChange(listener: (keys: readonly string[] | undefined) => void): () => void };
  readonly observed: { onChange(listener: () => void): () => void };
  /** Gives the same array as long as the endpoints are the same. */
  readonly endpointsOf: EndpointsOf;
}

/** Between two changes that are told; what happens meanwhile is told together. */
const GATHER_MS = 200;
/** What belongs together, such as a record and what is observed of it, is told together from the first. */
const FIRST_MS = 20;
/** With more keys a change is told as one of anything. */
const MOST_KEYS = 1_000;

const TOLD = /^(services|ingresses|workloads|policies|namespaces)\//;

/** What has happened since it was last taken; `keys` is undefined for anything. */
interface Gathered {
  readonly keys: Set<string> | undefined;
}

interface Listener {
  gathered: Gathered | undefined;
  wake: () => void;
}

/** Nothing is gathered while nobody listens. */
export function openChanges({ view, observed, endpointsOf }: ChangeSources): Changes {
  const listeners = new Set<Listener>();
  let known = new Map<string, readonly Endpoint[]>();
  let gathered: Gathered | undefined;
  let timer: NodeJS.Timeout | undefined;
  let lastAt = -GATHER_MS;

  const note = (keys: readonly string[] | undefined): void => {
    if (listeners.size === 0) return;
    gathered = merge(gathered, { keys: keys === undefined ? undefined : new Set(keys) });
    timer ??= setTimeout(tell, Math.max(FIRST_MS, lastAt + GATHER_MS - performance.now()));
  };

  const tell = (): void => {
    timer = undefined;
    lastAt = performance.now();
    const told = merge(gathered, { keys: new Set(servicesWithOtherEndpoints()) });
    gathered = undefined;
    for (const listener of listeners) {
      listener.gathered = merge(listener.gathered, told);
      listener.wake();
    }
  };

  const servicesWithOtherEndpoints = (): string[] => {
    const before = known;
    known = new Map([...view.state.services].map(([key, service]) => [key, endpointsOf(service)]));
    return [...known].filter(([key, endpoints]) => before.get(key) !== endpoints).map(([key]) => key);
  };

  const unsubscribe = [
    view.onChange((keys) => {
      const shown = keys?.filter((key) => TOLD.test(key));
      if (shown?.length !== 0) note(shown);
    }),
    observed.onChange(() => note([])),
  ];

  return {
    nodeChanged: () => note([]),
    follow: async function* (signal) {
      let waiting = Promise.withResolvers<void>();
      const listener: Listener = { gathered: { keys: undefined }, wake: () => waiting.resolve() };
      const wake = (): void => listener.wake();
      if (listeners.size === 0) servicesWithOtherEndpoints();
      listeners.add(listener);
      signal.addEventListener('abort', wake, { once: true });
      try {
        while (!signal.aborted) {
          const { gathered: now } = listener;
          listener.gathered = undefined;
          if (now === undefined) {
            await waiting.promise;
            waiting = Promise.withResolvers();
          } else yield { revision: view.state.revision, ...(now.keys === undefined ? {} : { keys: [...now.keys].toSorted() }) };
        }
      } finally {
        signal.removeEventListener('abort', wake);
        listeners.delete(listener);
        if (listeners.size === 0) clearTimeout(timer);
        if (listeners.size === 0) timer = gathered = undefined;
      }
    },
    close: () => {
      for (const stop of unsubscribe) stop();
      clearTimeout(timer);
    },
  };
}

function merge(one: Gathered | undefined, other: Gathered): Gathered {
  if (one === undefined) return other;
  if (one.keys === undefined || other.keys === undefined || one.keys.size + other.keys.size > MOST_KEYS) return { keys: undefined };
  return { keys: new Set([...one.keys, ...other.keys]) };
}
