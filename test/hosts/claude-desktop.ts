/** Starts MCP servers the way Claude Desktop does: a command, its arguments and variables, a small environment, stdio. It is a real MCP client. */
import { homedir } from 'node:os';
import { dirname } from 'node:path';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { z } from 'zod';
import type { Argv } from '../../src/drivers/exec.ts';

export const serverConfig = z.object({ command: z.string(), args: z.array(z.string()).default([]), env: z.record(z.string(), z.string()).default({}) });
export type ServerConfig = z.output<typeof serverConfig>;

/** What `claude_desktop_config.json` holds. */
export const desktopConfig = z.object({ mcpServers: z.record(z.string(), serverConfig) });

export interface Started extends AsyncDisposable {
  readonly client: Client;
  readonly tools: string[];
  /** From the start of the process to the answer to tools/list. */
  readonly listedMs: number;
  readonly stderr: () => string;
}

export interface StartOptions {
  /** Directories before those of Node and of the system. */
  readonly path?: readonly string[];
  /** Puts something before the argv, e.g. what changes the user. */
  readonly wrap?: (argv: Argv) => Argv;
}

export async function startServer({ command, args, env }: ServerConfig, { path = [], wrap = (argv) => argv }: StartOptions = {}): Promise<Started> {
  const variables = { HOME: homedir(), PATH: [...path, dirname(process.execPath), '/usr/sbin', '/usr/bin', '/sbin', '/bin'].join(':'), ...env };
  const [program, ...rest] = wrap(['env', '-i', ...Object.entries(variables).map(([name, value]) => `${name}=${value}`), command, ...args]);
  const startedAt = performance.now();
  const transport = new StdioClientTransport({ command: program, args: rest, stderr: 'pipe' });
  let stderr = '';
  transport.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const client = new Client({ name: 'claude-ai', version: '0.1.0' });
  try {
    await client.connect(transport);
    const { tools } = await client.listTools();
    const listedMs = performance.now() - startedAt;
    return { client, tools: tools.map(({ name }) => name), listedMs, stderr: () => stderr, [Symbol.asyncDispose]: () => client.close() };
  } catch (error) {
    await client.close();
    throw new Error(`${command} ${args.join(' ')} did not serve: ${stderr}`, { cause: error });
  }
}
