/** The resources that a client has subscribed to, and which of them a change concerns. What they hold is none of its business. */
import { ClawError, toClawError } from '../errors.ts';
import type { Change } from '../observed/changes.ts';
import type { FollowChanges } from './agent-changes.ts';
import { POLICIES_URI, protocolError, readResource, serviceBehind, SERVICES_URI, STATUS_URI } from './mcp-resources.ts';
import type { Invoke } from './mcp-tools.ts';

export interface Subscriptions {
  /** Resolves when whatever changes from now on is told. Throws McpFailure: there are too many, it can not be read, or the agent can not be listened to. */
  subscribe(uri: string, until: AbortSignal): Promise<void>;
  unsubscribe(uri: string): void;
}

/** The agent, as far as subscriptions need it. */
export interface Listening {
  readonly invoke: Invoke;
  readonly changes: FollowChanges;
}

export interface SubscriptionOptions extends Listening {
  readonly updated: (uri: string) => Promise<void>;
}

/** Of one client: each change is held against each of them. */
const MOST_URIS = 500;

/** The agent is listened to as long as there is a subscription, at most until the signal aborts. */
export function openSubscriptions({ invoke, changes, updated }: SubscriptionOptions, signal: AbortSignal): Subscriptions {
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
    subscribe: async (uri, until) => {
      if (uris.size >= MOST_URIS && !uris.has(uri)) {
        throw protocolError(uri, new ClawError('LIMIT_EXCEEDED', `a client subscribes to at most ${MOST_URIS} resources`, { hint: `Unsubscribe from some, or subscribe to ${SERVICES_URI}, which is told of every service.` }));
      }
      // What can not be read can not be subscribed to, and it is the agent that decides.
      await readResource(invoke, uri, until);
      // It counts from here on, so that the end of another one meanwhile does not end the listening.
      const isNew = !uris.has(uri);
      uris.add(uri);
      listening ??= start();
      try {
        await listening.begun;
      } catch (error) {
        if (isNew) uris.delete(uri);
        throw protocolError(uri, toClawError(error));
      }
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
