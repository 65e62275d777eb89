/** `clawnode mcp` as a process of its own, over HTTP or stdio, with the real client at its other end. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { getDefaultEnvironment, StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { CallToolResultSchema, type CallToolResult } from '@modelcontextprotocol/sdk/types.js';
import { start } from '../../src/drivers/exec.ts';
import { launcher } from '../cli/cli-process.ts';

export interface HttpServed {
  readonly url: URL;
  readonly token: string;
  readonly connect: () => Promise<Client>;
}

/** `clawnode mcp --http ARGS...`, for the agent on the socket if one is named, until the test ends. */
export async function serveHttp(t: TestContext, { args = [], socket }: { args?: readonly string[]; socket?: string }): Promise<HttpServed> {
  const folder = await mkdtemp(join(tmpdir(), 'claw-mcp-http-'));
  const tokenFile = join(folder, 'token');
  const server = start([process.execPath, launcher, 'mcp', '--http', '--port', '0', '--token-file', tokenFile, ...args], { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, ...(socket === undefined ? {} : { CLAWNODE_SOCKET: socket }) } });
  const ended = once(server, 'exit');
  t.after(async () => {
    server.kill('SIGTERM');
    assert.deepEqual(await ended, [0, null]);
    await rm(folder, { recursive: true, force: true });
  });
  let url: string | undefined;
  for await (const line of createInterface({ input: server.stderr ?? assert.fail() })) {
    url = /serving (\S+);/.exec(line)?.[1];
    if (url !== undefined) break;
  }
  assert.ok(url !== undefined, 'it ended before it served');
  const endpoint = new URL(url);
  const token = (await readFile(tokenFile, 'utf8')).trim();
  const connect = async (): Promise<Client> => {
    const client = new Client({ name: 'test', version: '1' });
    await client.connect(new StreamableHTTPClientTransport(endpoint, { requestInit: { headers: { authorization: `Bearer ${token}` } } }));
    return client;
  };
  return { url: endpoint, token, connect };
}

/** A client of `clawnode mcp ARGS...` on stdio, for the agent on the socket if one is named. */
export async function connectStdio(t: TestContext, { args = [], socket }: { args?: readonly string[]; socket?: string }): Promise<Client> {
  const client = new Client({ name: 'test', version: '1' });
  t.after(() => client.close());
  const env = { ...getDefaultEnvironment(), ...(socket === undefined ? {} : { CLAWNODE_SOCKET: socket }) };
  await client.connect(new StdioClientTransport({ command: process.execPath, args: [launcher, 'mcp', ...args], env, stderr: 'ignore' }));
  return client;
}

export async function call(client: Client, name: string, args: Record<string, unknown> = {}): Promise<CallToolResult> {
  return CallToolResultSchema.parse(await client.callTool({ name, arguments: args }));
}
