/** A real MCP client joined in memory to a server with a scripted agent, for the tests of the surface. */
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { InMemoryTransport } from '@modelcontextprotocol/sdk/inMemory.js';
import { CallToolResultSchema, type CallToolResult } from '@modelcontextprotocol/sdk/types.js';
import { ClawError } from '../../src/errors.ts';
import { serveMcp, type McpOptions } from '../../src/surfaces/mcp.ts';
import { sampleAnswers } from './sample-answers.ts';

export interface Session extends AsyncDisposable {
  readonly client: Client;
  readonly calls: { command: string; params: unknown }[];
  readonly call: (name: string, args?: Record<string, unknown>) => Promise<CallToolResult>;
  /** Ends the server by its signal. */
  readonly stop: () => Promise<void>;
}

/** A session whose agent answers the sample of each command unless an `invoke` is given. */
export async function openSession(options: Partial<McpOptions> = {}): Promise<Session> {
  const calls: Session['calls'] = [];
  const [near, far] = InMemoryTransport.createLinkedPair();
  const controller = new AbortController();
  const invoke: McpOptions['invoke'] = async (command, params, signal) => {
    calls.push({ command, params });
    return (options.invoke ?? sampleInvoke)(command, params, signal);
  };
  const served = serveMcp({ version: '0.0.1', introduction: 'You program node n1.', ...options, invoke, transport: far }, controller.signal);
  const client = new Client({ name: 'test', version: '1' });
  await client.connect(near);
  await client.listTools(); // From here on the client checks answers against the listed output schemas.
  const stop = async (): Promise<void> => {
    controller.abort();
    await served;
  };
  return {
    client,
    calls,
    stop,
    call: async (name, args) => CallToolResultSchema.parse(await client.callTool({ name, ...(args === undefined ? {} : { arguments: args }) })),
    [Symbol.asyncDispose]: async () => {
      await client.close();
      await stop();
    },
  };
}

/** The error that a failed call shows, after the form of the answer was checked. */
export function errorOf(result: CallToolResult): Record<string, unknown> {
  const [content, ...others] = result.content;
  if (result.isError !== true || content?.type !== 'text' || others.length > 0) throw new Error(`no tool error: ${JSON.stringify(result)}`);
  if (result.structuredContent !== undefined) throw new Error('an error must not carry structured content');
  const parsed: unknown = JSON.parse(content.text);
  if (typeof parsed !== 'object' || parsed === null) throw new Error(`no error object: ${content.text}`);
  return Object.fromEntries(Object.entries(parsed));
}

/** The one text of a result. */
export function textOf(result: CallToolResult): string {
  const [content] = result.content;
  if (content?.type !== 'text') throw new Error(`no text: ${JSON.stringify(result)}`);
  return content.text;
}

const sampleInvoke: McpOptions['invoke'] = async (command) => {
  const answer = sampleAnswers[command];
  if (answer === undefined) throw new ClawError('UNKNOWN_COMMAND', `no sample for ${command}`);
  return answer;
};
