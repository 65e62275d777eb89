/** MCP over Streamable HTTP without sessions: one POST, one server, one JSON answer. It takes no request without the token and holds nothing between two. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js';
import { ErrorCode as McpErrorCode } from '@modelcontextprotocol/sdk/types.js';
import { ClawError } from '../errors.ts';
import { isAuthorized } from './bearer-token.ts';
import { answerError, type HttpRoute } from './http.ts';
import { createMcpServer, type McpServerOptions } from './mcp.ts';

export const MCP_PATH = '/mcp';

/** As much as the agent takes in one call. */
const MAX_BODY_BYTES = 4 * 1024 * 1024;

export interface McpRouteOptions extends McpServerOptions {
  readonly token: string;
}

/** The route for `listenOnLoopback`. Calls that are running when the signal aborts are broken off. */
export function mcpRoute(options: McpRouteOptions, signal: AbortSignal): HttpRoute {
  return {
    path: MCP_PATH,
    handle: async (request, response) => {
      const refusal = refusalOf(request, options.token);
      if (refusal !== undefined) return answerError(response, refusal);
      const body = await readBody(request);
      if (body === undefined) return answerError(response, TOO_LARGE);
      const message = parseJson(body);
      if (message === undefined) return answerNoJson(response);
      await exchange({ options, request, response, message, signal });
    },
  };
}

function refusalOf({ headers, method = '' }: IncomingMessage, token: string): Parameters<typeof answerError>[1] | undefined {
  if (!isAuthorized(headers.authorization, token)) {
    const error = new ClawError('PERMISSION_DENIED', headers.authorization === undefined ? 'the bearer token is missing' : 'the bearer token is wrong', {
      path: 'Authorization',
      hint: '`clawnode mcp --http` says which file holds it.',
    });
    const flaw = headers.authorization === undefined ? '' : ', error="invalid_token"';
    return { status: 401, error, headers: { 'www-authenticate': `Bearer realm="clawnode"${flaw}` } };
  }
  if (method === 'POST') return undefined;
  // Without sessions there is no stream to open with GET and nothing to end with DELETE.
  const error = new ClawError('NOT_SUPPORTED', `${method} is not served: there are no sessions and no streams`, { path: 'method', hint: 'POST one JSON-RPC message.' });
  return { status: 405, error, headers: { allow: 'POST' } };
}

const TOO_LARGE = {
  status: 413,
  error: new ClawError('LIMIT_EXCEEDED', `a request holds at most ${MAX_BODY_BYTES} bytes`, { hint: 'Split it.' }),
};

/** Undefined as soon as it is longer than it may be. */
async function readBody(request: IncomingMessage): Promise<Buffer | undefined> {
  if (Number(request.headers['content-length'] ?? 0) > MAX_BODY_BYTES) return undefined;
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    const bytes = Buffer.from(chunk);
    size += bytes.length;
    if (size > MAX_BODY_BYTES) return undefined;
    chunks.push(bytes);
  }
  return Buffer.concat(chunks);
}

/** Undefined for what is not JSON, which no JSON text means. */
function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString());
  } catch {
    return undefined;
  }
}

function answerNoJson(response: ServerResponse): void {
  const error = { code: McpErrorCode.ParseError, message: 'Parse error: the body is not JSON' };
  response.writeHead(400, { 'content-type': 'application/json' }).end(JSON.stringify({ jsonrpc: '2.0', error, id: null }));
}

interface Exchange {
  readonly options: McpRouteOptions;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly message: unknown;
  readonly signal: AbortSignal;
}

async function exchange({ options, request, response, message, signal }: Exchange): Promise<void> {
  const server = createMcpServer(options, { running: new Set(), signal });
  // Stateless and answered as JSON: without a session id the transport is good for this one request.
  const transport = new WebStandardStreamableHTTPServerTransport({ enableJsonResponse: true });
  // Once the caller is gone, what it asked for is cancelled; after an answer nothing is left to cancel.
  const gone = new Promise<undefined>((resolve) => response.once('close', () => resolve(undefined)));
  try {
    await server.connect(transport);
    const answer = await Promise.race([transport.handleRequest(webRequest(request), { parsedBody: message }), gone]);
    if (answer === undefined) return;
    const text = await answer.text();
    response.writeHead(answer.status, { 'cache-control': 'no-store', ...Object.fromEntries(answer.headers) }).end(text);
  } finally {
    await server.close();
  }
}

/** What the transport looks at; the token goes no further. */
const PASSED_HEADERS = ['accept', 'content-type', 'mcp-protocol-version'] as const;

function webRequest({ headers }: IncomingMessage): Request {
  const passed = PASSED_HEADERS.flatMap((name) => {
    const value = headers[name];
    return typeof value === 'string' ? [[name, value] as const] : [];
  });
  return new Request(`http://localhost${MCP_PATH}`, { method: 'POST', headers: Object.fromEntries(passed) });
}
