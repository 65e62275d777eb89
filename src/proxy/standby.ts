/** The turn of one of two proxies that share their sockets: waits for as long as the other one serves; it needs no agent and takes nothing from it. */
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'undici';
import { z } from 'zod';
import type { ProxyConfig } from './config.ts';

/** How often the other one is looked at, for it may hang; its drain and its death are noticed at once, by a broken connection. */
const LOOK_MS = 1000;
/** While both start, or one takes over. */
const UNDECIDED_MS = 20;
/** So long a process may take that is alive: a hundred thousand rules take it a second. */
const ANSWER_TIMEOUT_MS = 1500;

const health = z.object({ listening: z.array(z.string()), draining: z.boolean() });

/**
 * Resolves when this process is to serve, or at the signal's abort. Two that serve at once, as when one that was taken for hung goes
 * on, do no harm: each connection is accepted by one of them.
 */
export async function waitForTurn({ controlSocket, yields }: NonNullable<ProxyConfig['sibling']>, signal: AbortSignal): Promise<void> {
  const options = { socketPath: controlSocket, connectTimeout: ANSWER_TIMEOUT_MS, headersTimeout: ANSWER_TIMEOUT_MS, bodyTimeout: ANSWER_TIMEOUT_MS };
  const client = new Client('http://sibling', options);
  let lookNow = (): void => undefined;
  client.on('disconnect', () => lookNow());
  try {
    while (!signal.aborted) {
      const other = await look(client, signal);
      if (other === 'gone' || (other === 'starting' && !yields)) return;
      const broken = new AbortController();
      lookNow = () => broken.abort();
      await delay(other === 'serving' ? LOOK_MS : UNDECIDED_MS, undefined, { signal: AbortSignal.any([broken.signal, signal]) }).catch(() => undefined);
    }
  } finally {
    await client.destroy();
  }
}

/** One that drains or does not answer counts as gone. */
async function look(client: Client, signal: AbortSignal): Promise<'serving' | 'starting' | 'gone'> {
  try {
    const answer = await client.request({ method: 'GET', path: '/v1/health', signal });
    const { listening, draining } = health.parse(await answer.body.json());
    if (draining) return 'gone';
    return listening.length > 0 ? 'serving' : 'starting';
  } catch {
    return 'gone';
  }
}
