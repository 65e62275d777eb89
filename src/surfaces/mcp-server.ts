/** The MCP server of one client: shows the registry as tools, resources and prompts and hands each call to the agent. It parses no arguments and knows no transport. */
import { Server } from '@modelcontextprotocol/server';
import type { FollowChanges } from './agent-changes.ts';
import { McpFailure, RPC } from './mcp-failure.ts';
import { instructions } from './mcp-instructions.ts';
import { withProgress, type Progress } from './mcp-progress.ts';
import { getPrompt, listPrompts } from './mcp-prompts.ts';
import { listResources, listResourceTemplates, readResource } from './mcp-resources.ts';
import { openSubscriptions } from './mcp-subscriptions.ts';
import { callTool, listTools, type Invoke } from './mcp-tools.ts';
import type { ToolScope } from './tool-scope.ts';

export interface McpServerOptions extends ToolScope {
  /**
   * Carries out a command, e.g. `connectAgent(path, scope).invoke`. Every call is handed on, also one of a tool that is
   * hidden or unknown, so that the agent refuses it and its audit log holds the attempt.
   */
  readonly invoke: Invoke;
  /** How it learns of changes; without it resources can be read and not subscribed to. */
  readonly changes?: FollowChanges;
  readonly version: string;
  /** A sentence or two that the client shows its model first: whose network the tools work on. */
  readonly introduction: string;
}

/** The calls of one server, for whoever ends it. */
export interface Calls {
  readonly running: Set<Promise<unknown>>;
  /** Aborts when serving ends. */
  readonly signal: AbortSignal;
}

/** Which lists there are is settled when it is created, so no client is ever told that one has changed. */
export function createMcpServer(options: McpServerOptions, calls: Calls): Server {
  const { invoke, changes } = options;
  const server = new Server(
    { name: 'clawbernetes-networking', title: 'Clawbernetes networking', version: options.version },
    {
      capabilities: { tools: {}, resources: changes === undefined ? {} : { subscribe: true }, prompts: {} },
      instructions: instructions({ introduction: options.introduction, scope: options }),
    },
  );
  const track = async <Answer>(call: Promise<Answer>): Promise<Answer> => {
    calls.running.add(call);
    return call.finally(() => calls.running.delete(call));
  };
  const until = (signal: AbortSignal): AbortSignal => AbortSignal.any([calls.signal, signal]);
  server.setRequestHandler('tools/list', ({ params }) => onePage(params, { tools: listTools(options) }));
  server.setRequestHandler('tools/call', async ({ params }, { mcpReq }) => {
    const call = (): ReturnType<typeof callTool> => callTool(invoke, params, until(mcpReq.signal));
    const progressToken = params._meta?.progressToken;
    if (progressToken === undefined) return track(call());
    const tell = (progress: Progress): Promise<void> => mcpReq.notify({ method: 'notifications/progress', params: { progressToken, ...progress } });
    return track(withProgress(params, tell, call));
  });
  server.setRequestHandler('resources/list', ({ params }) => onePage(params, { resources: listResources(options) }));
  server.setRequestHandler('resources/templates/list', ({ params }) => onePage(params, { resourceTemplates: listResourceTemplates(options) }));
  server.setRequestHandler('resources/read', async ({ params }, { mcpReq }) => track(readResource(invoke, params.uri, until(mcpReq.signal))));
  server.setRequestHandler('prompts/list', ({ params }) => onePage(params, { prompts: listPrompts(options) }));
  server.setRequestHandler('prompts/get', ({ params }) => getPrompt(options, params));
  if (changes !== undefined) {
    const subscriptions = openSubscriptions({ invoke, changes, updated: (uri) => server.sendResourceUpdated({ uri }) }, calls.signal);
    server.setRequestHandler('resources/subscribe', async ({ params: { uri } }, { mcpReq }) => {
      await track(subscriptions.subscribe(uri, until(mcpReq.signal)));
      return {};
    });
    server.setRequestHandler('resources/unsubscribe', ({ params: { uri } }) => {
      subscriptions.unsubscribe(uri);
      return {};
    });
  }
  return server;
}

function onePage<List>(params: { cursor?: string | undefined } | undefined, list: List): List {
  if (params?.cursor === undefined) return list;
  throw new McpFailure(RPC.invalidParams, 'the list has one page, so no cursor is valid');
}
