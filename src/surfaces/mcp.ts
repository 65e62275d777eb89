/** Serves MCP on standard input and output, until the client has gone; it knows no tool. */
import { once } from 'node:events';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';
import { createMcpServer, type Calls, type McpServerOptions } from './mcp-server.ts';

export interface McpOptions extends McpServerOptions {
  /** stdio unless given. */
  readonly transport?: Transport;
}

/**
 * Serves until the client closes the connection or the signal aborts. When stdin merely ends, calls that are running get
 * a moment to be answered, so that a script may pipe its requests in; every other end aborts them.
 */
export async function serveMcp(options: McpOptions, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const lifetime = new AbortController();
  const stop = (): void => lifetime.abort();
  const calls: Calls = { running: new Set(), signal: lifetime.signal };
  const server = createMcpServer(options, calls);
  // oxlint-disable-next-line unicorn/prefer-add-event-listener -- The SDK's server is no EventTarget.
  server.onclose = stop;
  signal.addEventListener('abort', stop, { once: true });
  const { transport = new StdioServerTransport() } = options;
  const unwatch = options.transport === undefined ? watchStdio({ calls, stop }) : (): void => undefined;
  const closed = once(lifetime.signal, 'abort');
  try {
    await server.connect(transport);
    await closed;
  } finally {
    signal.removeEventListener('abort', stop);
    unwatch();
    await server.close();
  }
}

// An MCP client that closed stdin waits about two seconds before it sends a signal.
const DRAIN_MS = 1_500;

/** Sees what the SDK's transport does not watch for: a client that is gone shows as the end of stdin or as a broken stdout. */
function watchStdio({ calls, stop }: { calls: Calls; stop: () => void }): () => void {
  const drain = (): void => {
    const drained = Promise.allSettled(calls.running).then(() => nextTurn());
    void Promise.race([drained, sleep(DRAIN_MS, undefined, { signal: calls.signal, ref: false })]).then(stop, stop);
  };
  process.stdin.once('end', drain).once('close', drain);
  // This one stays: an answer that is still being written may fail after the end.
  process.stdout.on('error', stop);
  return () => void process.stdin.off('end', drain).off('close', drain);
}
