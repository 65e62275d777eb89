/** MCP over Streamable HTTP: lets in who has the token, reads the message, and hands it to the session that it names or to a server of its own. It knows no tool. */
import type { IncomingMessage } from 'node:http';
import { isInitializeRequest, isLegacyRequest, WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/server';
import { ClawError } from '../errors.ts';
import { isAuthorized } from './bearer-token.ts';
import { answerError, type ErrorAnswer, type HttpRoute } from './http.ts';
import { exchange, readJson, webRequest, type Exchange } from './mcp-http-exchange.ts';
import { openSessions, type ServerFactory, type Sessions } from './mcp-http-sessions.ts';
import { answerStateless } from './mcp-http-stateless.ts';
import type { Listening } from './mcp-subscriptions.ts';

export const MCP_PATH = '/mcp';

export interface McpRouteOptions {
  readonly token: string;
  readonly createServer: ServerFactory;
  /** How clients of revision 2026-07-28 learn of changes. */
  readonly listening?: Listening | undefined;
}

/** The route for `listenOnLoopback`. Calls that are running when the signal aborts are broken off, and sessions end. */
export function mcpRoute({ token, createServer, listening }: McpRouteOptions, signal: AbortSignal): HttpRoute {
  const sessions = openSessions(createServer, signal);
  return {
    path: MCP_PATH,
    handle: async (request, response) => {
      const refusal = refusalOf(request, token);
      if (refusal !== undefined) return answerError(response, refusal);
      const read = request.method === 'POST' ? await readJson(request, response) : { message: undefined };
      if (read === undefined) return;
      const to = { request, response, message: read.message };
      if (request.method === 'POST' && !(await isLegacyRequest(webRequest(request), read.message))) {
        return answerStateless({ createServer: (until) => createServer({ lasting: true }, until), listening }, to, signal);
      }
      if (sessionId(request) !== undefined) return inSession(sessions, to);
      if (isInitializeRequest(read.message)) return sessions.open(to);
      await alone(createServer, to, signal);
    },
  };
}

function refusalOf(request: IncomingMessage, token: string): ErrorAnswer | undefined {
  const { headers, method = '' } = request;
  if (!isAuthorized(headers.authorization, token)) {
    const error = new ClawError('PERMISSION_DENIED', headers.authorization === undefined ? 'the bearer token is missing' : 'the bearer token is wrong', {
      path: 'Authorization',
      hint: '`clawnode mcp --http` says which file holds it.',
    });
    const flaw = headers.authorization === undefined ? '' : ', error="invalid_token"';
    return { status: 401, error, headers: { 'www-authenticate': `Bearer realm="clawnode"${flaw}` } };
  }
  const served = sessionId(request) === undefined ? ['POST'] : ['POST', 'GET', 'DELETE'];
  if (served.includes(method)) return undefined;
  // Only a session has a stream to open with GET and an end to bring about with DELETE.
  const error = new ClawError('NOT_SUPPORTED', `${method} is not served${served.length === 1 ? ' without a session' : ''}`, { path: 'method', hint: 'POST one JSON-RPC message.' });
  return { status: 405, error, headers: { allow: served.join(', ') } };
}

function sessionId({ headers }: IncomingMessage): string | undefined {
  const id = headers['mcp-session-id'];
  return typeof id === 'string' ? id : undefined;
}

async function inSession(sessions: Sessions, to: Exchange): Promise<void> {
  const id = sessionId(to.request) ?? '';
  if (await sessions.exchange(id, to)) return;
  const error = new ClawError('NOT_ALLOWED', `there is no session ${JSON.stringify(id.slice(0, 40))}: it has ended, or another server had it`, {
    path: 'Mcp-Session-Id',
    hint: 'Initialize again, without this header.',
  });
  answerError(to.response, { status: 404, error });
}

/** Without a session a request has a server of its own: what it leaves behind is its answer. */
async function alone(createServer: ServerFactory, to: Exchange, signal: AbortSignal): Promise<void> {
  const ended = new AbortController();
  const server = createServer({ lasting: false }, AbortSignal.any([signal, ended.signal]));
  const transport = new WebStandardStreamableHTTPServerTransport();
  try {
    await server.connect(transport);
    await exchange(transport, to);
  } finally {
    ended.abort();
    await server.close();
  }
}
