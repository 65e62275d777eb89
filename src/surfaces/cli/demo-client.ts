/** The demo's MCP client: starts our own server over stdio, exactly as Claude Desktop would, and shows each call. */
import { findPackageJSON } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { Client, type CallToolResult } from '@modelcontextprotocol/client';
import { getDefaultEnvironment, StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { z } from 'zod';
import { DemoFailure } from './demo-failure.ts';
import type { Screen } from './demo-screen.ts';
import { version } from '../../version.ts';

export interface DemoClient extends AsyncDisposable {
  readonly tools: number;
  /** Calls a tool; parses and shows those fields of its answer that the schema names. Throws DemoFailure on a tool error. */
  call<Schema extends z.ZodType>(name: string, args: object, schema: Schema): Promise<z.output<Schema>>;
  /** The error that a call is expected to end with. Throws DemoFailure when it succeeds. */
  callWrongly(name: string, args: object): Promise<z.output<typeof toolError>>;
}

const toolError = z.object({ code: z.string(), message: z.string(), path: z.string(), hint: z.string() });

/** Connects to `clawnode mcp` with the agent on this socket. */
export async function connectDemoClient({ socketPath, screen }: { socketPath: string; screen: Screen }, signal: AbortSignal): Promise<DemoClient> {
  const client = new Client({ name: 'clawnode-demo', version: version() });
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [join(packageRoot(), 'bin', 'clawnode.js'), 'mcp'],
    env: { ...getDefaultEnvironment(), CLAWNODE_SOCKET: socketPath },
    stderr: 'pipe',
  });
  let said = '';
  transport.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  try {
    await client.connect(transport, { signal });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new DemoFailure('the MCP server does not answer', { expected: 'an answer to initialize', seen: `${String(error)}\n${said.trim()}` });
  }
  const { tools } = await client.listTools({}, { signal });
  const request = async (name: string, args: object): Promise<{ result: CallToolResult; text: string }> => {
    const result = await client.callTool({ name, arguments: { ...args } }, { signal });
    const [content] = result.content;
    return { result, text: content?.type === 'text' ? content.text : '' };
  };
  return {
    tools: tools.length,
    call: async (name, args, schema) => {
      const { result, text } = await request(name, args);
      if (result.isError === true) throw new DemoFailure(`${name} failed`, { expected: 'an answer', seen: text });
      const parsed = schema.safeParse(result.structuredContent);
      if (!parsed.success) throw new DemoFailure(`${name} answered otherwise`, { expected: z.prettifyError(parsed.error), seen: text });
      screen.call(name, readable(args), [facts(parsed.data)]);
      return parsed.data;
    },
    callWrongly: async (name, args) => {
      const { result, text } = await request(name, args);
      if (result.isError !== true) throw new DemoFailure(`${name} took a wrong argument`, { expected: 'an error', seen: text });
      const error = toolError.parse(JSON.parse(text));
      screen.call(name, args, [`${error.code} at ${error.path}: ${error.message}`, `hint: ${error.hint}`]);
      return error;
    },
    [Symbol.asyncDispose]: async () => client.close(),
  };
}

/** Arguments as they fit a line: the program's name without its directory, and of its arguments only the last. */
function readable(args: object): object {
  return Object.fromEntries(
    Object.entries(args).map(([key, value]) => {
      if (key !== 'command' || !Array.isArray(value)) return [key, value];
      const [program, ...rest] = value.map(String);
      return [key, [basename(program ?? ''), '…', ...rest.slice(-1)]];
    }),
  );
}

/** `meshIp 10.200.1.2, state running`. */
function facts(answer: unknown): string {
  if (typeof answer !== 'object' || answer === null) return typeof answer === 'string' ? answer : JSON.stringify(answer);
  return Object.entries(answer)
    .map(([key, value]: [string, unknown]) => `${key} ${facts(value)}`)
    .join(', ');
}

function packageRoot(): string {
  const manifest = findPackageJSON(import.meta.url);
  if (manifest === undefined) throw new DemoFailure('the program is not whole', { expected: 'a package.json above it', seen: 'none' });
  return dirname(manifest);
}
