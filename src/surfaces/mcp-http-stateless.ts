/** One request of revision 2026-07-28, in which each says all that its answer needs: a server for it alone, and a stream of changes where it asks for one. It knows no session. */
import { createMcpHandler, type Server } from '@modelcontextprotocol/server';
import { send, webRequest, type Exchange } from './mcp-http-exchange.ts';
import { listenIn, listenTo, notListening } from './mcp-listens.ts';
import { openSubscriptions, type Listening } from './mcp-subscriptions.ts';

export interface StatelessOptions {
  readonly createServer: (signal: AbortSignal) => Server;
  readonly listening?: Listening | undefined;
}

/** Resolves when the answer has been sent, the client is gone, or the signal aborts; what it asked for ends with that. */
export async function answerStateless({ createServer, listening }: StatelessOptions, to: Exchange, signal: AbortSignal): Promise<void> {
  const { request, response, message } = to;
  const gone = new AbortController();
  const leave = (): void => gone.abort();
  response.once('close', leave);
  const until = AbortSignal.any([signal, gone.signal]);
  const handler = createMcpHandler(() => createServer(until), { legacy: 'reject' });
  const close = (): void => void handler.close();
  signal.addEventListener('abort', close, { once: true });
  try {
    const listen = listenIn(message);
    if (listen !== undefined && listening !== undefined) {
      const subscriptions = openSubscriptions({ ...listening, updated: async (uri) => handler.notify.resourceUpdated(uri) }, until);
      try {
        await listenTo(subscriptions, listen, until);
      } catch (error) {
        return void response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(notListening(listen, error)));
      }
    }
    await send(await handler.fetch(webRequest(request, until), { parsedBody: message }), to, gone.signal);
  } finally {
    signal.removeEventListener('abort', close);
    response.off('close', leave);
    leave();
    await handler.close();
  }
}
