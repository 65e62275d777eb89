/** The resources that a client has subscribed to, and which of them a change concerns. It reads none of them. */
import type { Change } from '../observed/changes.ts';
import type { FollowChanges } from './agent-changes.ts';
import { SERVICES_URI, STATUS_URI, POLICIES_URI, serviceBehind } from './mcp-resources.ts';

export interface Subscriptions {
  /** Resolves when whatever changes from now on is told. */
  subscribe(uri: string): Promise<void>;
  unsubscribe(uri: string): void;
}

export interface SubscriptionOptions {
  readonly changes: FollowChanges;
  readonly updated: (uri: string) => Promise<void>;
}

/** The agent is listened to as long as there is a subscription, at most until the signal aborts. */
export function openSubscriptions({ changes, updated }: SubscriptionOptions, signal: AbortSignal): Subscriptions {
  const uris = new Set<string>();
  let listening: { readonly stop: AbortController; readonly begun: Promise<void> } | undefined;

  const listen = async (until: AbortSignal, begin: () => void): Promise<void> => {
    let first = true;
    for await (const change of changes(until)) {
      if (!first) await Promise.all([...uris].filter((uri) => concerns(change, uri)).map((uri) => updated(uri).catch(() => undefined)));
      first = false;
      begin();
    }
  };

  const start = (): NonNullable<typeof listening> => {
    const stop = new AbortController();
    const { promise: begun, resolve, reject } = Promise.withResolvers<void>();
    const started = { stop, begun };
    // It ends with the signal; before that only when it could not begin, and then the next subscription tries again.
    listen(AbortSignal.any([signal, stop.signal]), resolve).then(resolve, (error: unknown) => {
      if (listening === started) listening = undefined;
      reject(error);
    });
    return started;
  };

  return {
    subscribe: async (uri) => {
      listening ??= start();
      await listening.begun;
      uris.add(uri);
    },
    unsubscribe: (uri) => {
      uris.delete(uri);
      if (uris.size > 0) return;
      listening?.stop.abort();
      listening = undefined;
    },
  };
}

/** The status tells something of everything. */
function concerns({ keys }: Change, uri: string): boolean {
  if (keys === undefined || uri === STATUS_URI) return true;
  if (uri === SERVICES_URI) return keys.some((key) => key.startsWith('services/'));
  if (uri === POLICIES_URI) return keys.some((key) => key.startsWith('policies/'));
  const service = serviceBehind(uri);
  return service !== undefined && keys.includes(`services/${service.namespace}/${service.name}`);
}
