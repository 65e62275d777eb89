/** Serves MCP on standard input and output, until the client has gone; it knows no tool. */
import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import type { Server, Transport } from '@modelcontextprotocol/server';
import { serveStdio, StdioServerTransport } from '@modelcontextprotocol/server/stdio';
import { followListens } from './mcp-listens.ts';
import { createMcpServer, type Calls, type McpServerOptions } from './mcp-server.ts';
import { openSubscriptions } from './mcp-subscriptions.ts';

export interface McpOptions extends McpServerOptions {
  /** stdio unless given. */
  readonly transport?: Transport;
  /** Settles when the agent can answer, where calls have to wait for that. */
  readonly ready?: Promise<void> | undefined;
  /** Told of what came in and could not be read, and what could not be sent. */
  readonly onError?: (error: Error) => void;
}

/**
 * Serves until the client closes the connection or the signal aborts; the client's first message tells which revision of the
 * protocol it speaks. When stdin merely ends, calls that are running get a moment to be answered, so that a script may pipe its
 * requests in; every other end aborts them.
 */
export async function serveMcp(options: McpOptions, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const lifetime = new AbortController();
  const stop = (): void => lifetime.abort();
  const calls: Calls = { running: new Set(), signal: lifetime.signal };
  signal.addEventListener('abort', stop, { once: true });
  const closed = once(lifetime.signal, 'abort');
  const { transport, release } = options.transport === undefined ? stdioTransport(calls, options.ready) : { transport: options.transport, release: () => undefined };
  let latest: Server | undefined;
  const connection = serveStdio(() => (latest = createMcpServer(options, calls)), { transport, ...(options.onError === undefined ? {} : { onerror: options.onError }) });
  if (options.changes !== undefined) {
    const { invoke, changes } = options;
    const subscriptions = openSubscriptions({ invoke, changes, updated: async (uri) => latest?.sendResourceUpdated({ uri }) }, lifetime.signal);
    followListens(transport, subscriptions, lifetime.signal);
  }
  const { onclose } = transport;
  // oxlint-disable-next-line unicorn/prefer-add-event-listener -- The SDK's transport is no EventTarget.
  transport.onclose = () => {
    onclose?.();
    stop();
  };
  try {
    await closed;
  } finally {
    signal.removeEventListener('abort', stop);
    release();
    await connection.close();
  }
}

// An MCP client that closed stdin waits about two seconds before it sends a signal.
const DRAIN_MS = 1_500;

/** Ends with stdin, but not before what was asked is answered, for which there is a moment: the SDK's own would drop it. */
function stdioTransport(calls: Calls, ready: McpOptions['ready']): { transport: Transport; release: () => void } {
  const input = new PassThrough();
  const end = (): void => void input.end();
  const drain = (): void => {
    const drained = Promise.allSettled(calls.running).then(() => nextTurn());
    // The moment begins once the agent can answer: a script's requests are all in the pipe before that.
    const late = Promise.allSettled([ready]).then(() => sleep(DRAIN_MS, undefined, { signal: calls.signal, ref: false }));
    void Promise.race([drained, late]).then(end, end);
  };
  process.stdin.once('end', drain).once('close', drain).pipe(input, { end: false });
  return {
    transport: new StdioServerTransport(input, process.stdout),
    release: () => void process.stdin.off('end', drain).off('close', drain).unpipe(input).pause(),
  };
}
