/** What clients of revision 2026-07-28 listen to. The library serves `subscriptions/listen` by itself and tells nobody, so the message is read on its way there. It answers only one that can not begin. */
import type { Transport } from '@modelcontextprotocol/server';
import { z } from 'zod';
import { toClawError } from '../errors.ts';
import { McpFailure, RPC } from './mcp-failure.ts';
import type { Subscriptions } from './mcp-subscriptions.ts';

export interface Listen {
  readonly id: string | number;
  /** The resources whose changes are to be told, each once. */
  readonly uris: readonly string[];
}

const id = z.union([z.string(), z.int()]);
const listen = z.object({
  id,
  method: z.literal('subscriptions/listen'),
  params: z.object({
    // Without it the message is one of an older revision, which knows no listening.
    _meta: z.object({ 'io.modelcontextprotocol/protocolVersion': z.string() }),
    notifications: z.object({ resourceSubscriptions: z.array(z.string()).default([]) }),
  }),
});
const cancelled = z.object({ method: z.literal('notifications/cancelled'), params: z.object({ requestId: id }) });

/** Undefined for any other message, and for one that the library will refuse. */
export function listenIn(message: unknown): Listen | undefined {
  const { data } = listen.safeParse(message);
  return data === undefined ? undefined : { id: data.id, uris: [...new Set(data.params.notifications.resourceSubscriptions)] };
}

/** What a client is told whose subscription can not begin. */
export function notListening({ id: listening }: Listen, thrown: unknown): { jsonrpc: '2.0'; id: string | number; error: { code: number; message: string; data: unknown } } {
  const { code, message, data } = thrown instanceof McpFailure ? thrown : new McpFailure(RPC.internalError, toClawError(thrown).message);
  return { jsonrpc: '2.0', id: listening, error: { code, message, data } };
}

/** Subscribes to all of it or to nothing. Throws as `subscribe` does. */
export async function listenTo(subscriptions: Subscriptions, { uris }: Listen, until: AbortSignal): Promise<void> {
  for (const uri of uris) await subscriptions.subscribe(uri, until);
}

interface Held {
  readonly uris: readonly string[];
  readonly left: AbortController;
}

/**
 * Subscribes to what is listened to on a connection that is open already, until the signal aborts. A listen goes on to the library
 * once nothing can be missed any more; every other message goes on at once, so that one that waits for the agent holds up no other.
 */
export function followListens(transport: Transport, subscriptions: Subscriptions, signal: AbortSignal): void {
  const listens = new Map<string | number, Held>();
  const deliver = transport.onmessage?.bind(transport);
  const release = ({ uris }: Held): void => {
    for (const uri of uris) if (![...listens.values()].some((other) => other.uris.includes(uri))) subscriptions.unsubscribe(uri);
  };
  const leave = (listening: string | number): void => {
    const held = listens.get(listening);
    if (held === undefined) return;
    listens.delete(listening);
    held.left.abort();
    release(held);
  };
  /** Whether it is still wanted when all of it is subscribed to. */
  const enter = async (begun: Listen): Promise<boolean> => {
    const held: Held = { uris: begun.uris, left: new AbortController() };
    leave(begun.id);
    listens.set(begun.id, held);
    try {
      await listenTo(subscriptions, begun, AbortSignal.any([signal, held.left.signal]));
    } catch (error) {
      // One that was cancelled meanwhile is owed no answer.
      if (listens.get(begun.id) !== held) release(held);
      else {
        leave(begun.id);
        await transport.send(notListening(begun, error));
      }
      return false;
    }
    if (listens.get(begun.id) === held) return true;
    release(held);
    return false;
  };
  // oxlint-disable-next-line unicorn/prefer-add-event-listener -- The library's transport is no EventTarget.
  transport.onmessage = (message, extra) => {
    const begun = listenIn(message);
    if (begun !== undefined) {
      enter(begun).then(
        (goesOn) => (goesOn ? deliver?.(message, extra) : undefined),
        (error: unknown) => transport.onerror?.(error instanceof Error ? error : new Error(String(error))),
      );
      return;
    }
    const ended = cancelled.safeParse(message).data?.params.requestId;
    if (ended !== undefined) leave(ended);
    deliver?.(message, extra);
  };
}
