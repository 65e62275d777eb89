/** The HTTP stack with a scripted agent, asked by the real client or by raw requests, for the tests of both. */
import assert from 'node:assert/strict';
import { request, type IncomingHttpHeaders } from 'node:http';
import { text } from 'node:stream/consumers';
import type { TestContext } from 'node:test';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ClawError } from '../../src/errors.ts';
import { listenOnLoopback } from '../../src/surfaces/http.ts';
import { mcpRoute } from '../../src/surfaces/mcp-http.ts';
import { createMcpServer, type McpServerOptions } from '../../src/surfaces/mcp-server.ts';
import { sampleAnswers } from './sample-answers.ts';

export const TOKEN = 'a-token-for-these-tests-alone';
export const AUTHORIZED = { authorization: `Bearer ${TOKEN}` };
export const PING = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'ping' });

export interface Served {
  readonly port: number;
  readonly calls: string[];
  readonly defects: unknown[];
  readonly stop: () => Promise<void>;
}

export async function serve(t: TestContext, options: Partial<McpServerOptions> = {}): Promise<Served> {
  const calls: string[] = [];
  const defects: unknown[] = [];
  const stopping = new AbortController();
  const server: McpServerOptions = {
    version: '0.0.1',
    introduction: 'You program node n1.',
    ...options,
    invoke: async (command, params, signal) => {
      calls.push(command);
      if (options.invoke !== undefined) return options.invoke(command, params, signal);
      return sampleAnswers[command] ?? Promise.reject(new ClawError('UNKNOWN_COMMAND', `no sample for ${command}`));
    },
  };
  const route = mcpRoute({ token: TOKEN, listening: options.changes === undefined ? undefined : { invoke: server.invoke, changes: options.changes }, createServer: (_kind, signal) => createMcpServer(server, { running: new Set(), signal }) }, stopping.signal);
  const listener = await listenOnLoopback({ port: 0, routes: [route], onDefect: (error) => defects.push(error) });
  t.after(() => listener.close());
  const stop = async (): Promise<void> => {
    stopping.abort();
    await listener.close();
  };
  return { port: listener.port, calls, defects, stop };
}

export interface Raw {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
}

export const USUAL = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' };

export function raw(port: number, { method = 'POST', path = '/mcp', headers = {}, body = PING }: Raw = {}): Promise<{ status: number; headers: IncomingHttpHeaders; body: string }> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ host: '127.0.0.1', port, method, path, agent: false, headers: { ...USUAL, ...headers } }, (response) => {
      text(response).then((answer) => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: answer }), reject);
    });
    outgoing.on('error', reject);
    outgoing.end(method === 'GET' || method === 'DELETE' ? undefined : body);
  });
}

export async function connectClient(t: TestContext, port: number): Promise<Client> {
  const client = new Client({ name: 'test', version: '1' });
  const transport = new StreamableHTTPClientTransport(new URL(`http://127.0.0.1:${port}/mcp`), { requestInit: { headers: AUTHORIZED } });
  t.after(() => client.close());
  await client.connect(transport);
  return client;
}

export function asRecord(value: unknown): Record<string, unknown> {
  assert.ok(typeof value === 'object' && value !== null);
  return Object.fromEntries(Object.entries(value));
}
