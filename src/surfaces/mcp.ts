/** The MCP surface: shows the registry as tools, resources and prompts and hands each call to the agent. It holds no state and parses no arguments. */
import { once } from 'node:events';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { Server } from '@modelcontextprotocol/sdk/server/index.js';
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';
import {
  CallToolRequestSchema,
  GetPromptRequestSchema,
  ListPromptsRequestSchema,
  ListResourcesRequestSchema,
  ListResourceTemplatesRequestSchema,
  ListToolsRequestSchema,
  ReadResourceRequestSchema,
} from '@modelcontextprotocol/sdk/types.js';
import { McpFailure, RPC } from './mcp-failure.ts';
import { instructions } from './mcp-instructions.ts';
import { getPrompt, listPrompts } from './mcp-prompts.ts';
import { listResources, listResourceTemplates, readResource } from './mcp-resources.ts';
import { callTool, listTools, type Invoke } from './mcp-tools.ts';
import type { ToolScope } from './tool-scope.ts';

export interface McpServerOptions extends ToolScope {
  /**
   * Carries out a command, e.g. `connectAgent(path, scope).invoke`. Every call is handed on, also one of a tool that is
   * hidden or unknown, so that the agent refuses it and its audit log holds the attempt.
   */
  readonly invoke: Invoke;
  readonly version: string;
  /** A sentence or two that the client shows its model first: whose network the tools work on. */
  readonly introduction: string;
}

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

/** The calls of one server, for whoever ends it. */
export interface Calls {
  readonly running: Set<Promise<unknown>>;
  /** Aborts when serving ends. */
  readonly signal: AbortSignal;
}

/** A server for one connection, or for one request where there are no sessions. */
export function createMcpServer(options: McpServerOptions, calls: Calls): Server {
  const server = new Server(
    { name: 'clawbernetes-networking', title: 'Clawbernetes networking', version: options.version },
    { capabilities: { tools: {}, resources: {}, prompts: {} }, instructions: instructions({ introduction: options.introduction, scope: options }) },
  );
  const track = async <Answer>(call: Promise<Answer>): Promise<Answer> => {
    calls.running.add(call);
    return call.finally(() => calls.running.delete(call));
  };
  server.setRequestHandler(ListToolsRequestSchema, ({ params }) => onePage(params, { tools: listTools(options) }));
  server.setRequestHandler(CallToolRequestSchema, async ({ params }, extra) =>
    track(callTool(options.invoke, params, AbortSignal.any([calls.signal, extra.signal]))),
  );
  server.setRequestHandler(ListResourcesRequestSchema, ({ params }) => onePage(params, { resources: listResources(options) }));
  server.setRequestHandler(ListResourceTemplatesRequestSchema, ({ params }) => onePage(params, { resourceTemplates: listResourceTemplates(options) }));
  server.setRequestHandler(ReadResourceRequestSchema, async ({ params }, extra) =>
    track(readResource(options.invoke, params.uri, AbortSignal.any([calls.signal, extra.signal]))),
  );
  server.setRequestHandler(ListPromptsRequestSchema, ({ params }) => onePage(params, { prompts: listPrompts(options) }));
  server.setRequestHandler(GetPromptRequestSchema, ({ params }) => getPrompt(options, params));
  return server;
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

function onePage<List>(params: { cursor?: string | undefined } | undefined, list: List): List {
  if (params?.cursor === undefined) return list;
  throw new McpFailure(RPC.invalidParams, 'the list has one page, so no cursor is valid');
}
