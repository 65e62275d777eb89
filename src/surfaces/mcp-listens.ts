/** What clients of revision 2026-07-28 listen to. The library serves `subscriptions/listen` by itself and tells nobody, so the message is read on its way there. It answers nothing. */
import type { JSONRPCMessage, Transport } from '@modelcontextprotocol/server';
import { z } from 'zod';
import { toClawError } from '../errors.ts';
import { RPC } from './mcp-failure.ts';
import type { Subscriptions } from './mcp-subscriptions.ts';
import { plainError } from './plain-answer.ts';

export interface Listen {
  readonly id: string | number;
  /** The resources whose changes are to be told. */
  readonly uris: readonly string[];
}

const id = z.union([z.string(), z.int()]);
const listen = z.object({
  id,
  method: z.literal('subscriptions/listen'),
  params: z.object({ notifications: z.object({ resourceSubscriptions: z.array(z.string()).default([]) }) }),
});
const cancelled = z.object({ method: z.literal('notifications/cancelled'), params: z.object({ requestId: id }) });

/** Undefined for any other message, and for one that the library will refuse. */
export function listenIn(message: unknown): Listen | undefined {
  const { data } = listen.safeParse(message);
  return data === undefined ? undefined : { id: data.id, uris: data.params.notifications.resourceSubscriptions };
}

/** What a client is told whose subscription can not begin. */
export function notListening(listening: Listen, thrown: unknown): { jsonrpc: '2.0'; id: string | number; error: { code: number; message: string; data: unknown } } {
  const data = plainError(toClawError(thrown));
  return { jsonrpc: '2.0', id: listening.id, error: { code: RPC.internalError, message: `${data.code}: ${data.message}`, data } };
}

/** Subscribes to what is listened to on a connection that is open already. A listen goes on to the library once nothing can be missed any more. */
export function followListens(transport: Transport, subscriptions: Subscriptions): void {
  const listens = new Map<string | number, readonly string[]>();
  const deliver = transport.onmessage?.bind(transport);
  const enter = async (message: JSONRPCMessage): Promise<boolean> => {
    const begun = listenIn(message);
    const ended = cancelled.safeParse(message).data?.params.requestId;
    if (begun !== undefined) {
      try {
        for (const uri of begun.uris) await subscriptions.subscribe(uri);
      } catch (error) {
        await transport.send(notListening(begun, error));
        return false;
      }
      listens.set(begun.id, begun.uris);
    }
    const left = ended === undefined ? [] : (listens.get(ended) ?? []);
    if (ended !== undefined) listens.delete(ended);
    for (const uri of left) if (![...listens.values()].some((uris) => uris.includes(uri))) subscriptions.unsubscribe(uri);
    return true;
  };
  // One after the other, so that none overtakes a listen that is waiting.
  let before: Promise<unknown> = Promise.resolve();
  // oxlint-disable-next-line unicorn/prefer-add-event-listener -- The library's transport is no EventTarget.
  transport.onmessage = (message, extra) => {
    before = before.then(() => enter(message)).then(
      (goesOn) => (goesOn ? deliver?.(message, extra) : undefined),
      (error: unknown) => transport.onerror?.(error instanceof Error ? error : new Error(String(error))),
    );
  };
}
