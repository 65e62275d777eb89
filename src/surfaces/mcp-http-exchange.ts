/** One HTTP request between a client and a transport of the protocol: JSON where the answer is all there is to say, an event stream otherwise. It knows no session. */
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { isJSONRPCRequest, type WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/server';
import { ClawError } from '../errors.ts';
import { answerError } from './http.ts';
import { RPC } from './mcp-failure.ts';

export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** The body of a POST. */
  readonly message: unknown;
}

/** As much as the agent takes in one call. */
const MAX_BODY_BYTES = 4 * 1024 * 1024;
/** A stream on which not one byte could be sent for so long has no reader: the transport sends a comment every 15 s. */
const STALLED_MS = 60_000;

/** Resolves when the answer has been sent or the client is gone. A client that goes without its answer cancels what it asked for. */
export async function exchange(transport: WebStandardStreamableHTTPServerTransport, to: Exchange): Promise<void> {
  const { request, response, message } = to;
  const gone = new AbortController();
  const leave = (): void => gone.abort();
  response.once('close', leave);
  try {
    const answer = await transport.handleRequest(webRequest(request), message === undefined ? {} : { parsedBody: message });
    endCancelled(transport, message);
    await send(answer, to, gone.signal);
    if (gone.signal.aborted && !response.writableFinished) cancel(transport, message);
  } finally {
    response.off('close', leave);
  }
}

/** What the transport looks at; the token goes no further. */
const PASSED_HEADERS = ['accept', 'content-type', 'mcp-protocol-version', 'mcp-session-id', 'mcp-method', 'mcp-name'] as const;

export function webRequest({ headers, method = 'POST' }: IncomingMessage, signal?: AbortSignal): Request {
  const passed = PASSED_HEADERS.flatMap((name) => {
    const value = headers[name];
    return typeof value === 'string' ? [[name, value] as const] : [];
  });
  return new Request('http://localhost/', { method, headers: Object.fromEntries(passed), ...(signal === undefined ? {} : { signal }) });
}

function messagesIn(message: unknown): unknown[] {
  return Array.isArray(message) ? message : [message];
}

/** The ids of the requests in a message or a batch. */
function requestIds(message: unknown): (string | number)[] {
  return messagesIn(message).filter((one) => isJSONRPCRequest(one)).map(({ id }) => id);
}

function cancel(transport: WebStandardStreamableHTTPServerTransport, message: unknown): void {
  for (const requestId of requestIds(message)) {
    transport.onmessage?.({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId, reason: 'the client closed its request' } });
  }
}

/** A cancelled request is never answered, so its stream would stay open for as long as the session. */
function endCancelled(transport: WebStandardStreamableHTTPServerTransport, message: unknown): void {
  for (const one of messagesIn(message)) {
    const cancelled = cancelledRequest(one);
    if (cancelled !== undefined) transport.closeSSEStream(cancelled);
  }
}

function cancelledRequest(message: unknown): string | number | undefined {
  if (typeof message !== 'object' || message === null || !('method' in message) || message.method !== 'notifications/cancelled') return undefined;
  const params = 'params' in message && typeof message.params === 'object' && message.params !== null ? message.params : {};
  const id: unknown = 'requestId' in params ? params.requestId : undefined;
  return typeof id === 'string' || typeof id === 'number' ? id : undefined;
}

/** JSON where the answer is all there is to say, however the library put it. */
export async function send(answer: Response, { request, response, message }: Exchange, gone: AbortSignal): Promise<void> {
  const headers = { ...Object.fromEntries(answer.headers), 'cache-control': 'no-store' };
  const stream = answer.headers.get('content-type') === 'text/event-stream' ? answer.body?.getReader() : undefined;
  if (stream === undefined) return void response.writeHead(answer.status, headers).end(await answer.text());
  const stop = (): void => void stream.cancel();
  if (gone.aborted) return stop();
  gone.addEventListener('abort', stop, { once: true });
  // A stream that was opened with GET begins at once; a POST waits for what comes first.
  const first = request.method === 'GET' ? undefined : await stream.read();
  if (gone.aborted) return;
  const only = Array.isArray(message) ? undefined : answerIn(first?.value);
  if (only !== undefined) return void response.writeHead(200, { ...headers, 'content-type': 'application/json' }).end(only);
  response.setTimeout(STALLED_MS, () => response.destroy());
  response.writeHead(200, headers).flushHeaders();
  for (let next = first ?? (await stream.read()); !next.done && !gone.aborted; next = await stream.read()) {
    if (!response.write(next.value)) await drained(response, gone);
  }
  if (!gone.aborted) response.end();
}

/** Until then what is still to be told gathers up. The socket's own timeout begins anew with each write, also one that gets nowhere. */
async function drained(response: ServerResponse, gone: AbortSignal): Promise<void> {
  const stalled = setTimeout(() => response.destroy(), STALLED_MS);
  // Destroyed or left, it is gone, and the caller looks at that.
  await once(response, 'drain', { signal: gone }).catch(() => undefined);
  clearTimeout(stalled);
}

/** The one JSON-RPC answer that an event holds; undefined when it is something else, such as a notification on the way. */
function answerIn(chunk: Uint8Array | undefined): string | undefined {
  if (chunk === undefined) return undefined;
  const [, data] = /^event: message\ndata: (.*)\n\n$/.exec(Buffer.from(chunk).toString()) ?? [];
  if (data === undefined) return undefined;
  const held: unknown = JSON.parse(data);
  return typeof held === 'object' && held !== null && ('result' in held || 'error' in held) ? data : undefined;
}

/** The message of a POST; undefined when there is none that could be read, which has been answered then. */
export async function readJson(request: IncomingMessage, response: ServerResponse): Promise<{ message: unknown } | undefined> {
  const body = await readBody(request);
  if (body === undefined) {
    answerError(response, TOO_LARGE);
    return undefined;
  }
  try {
    return { message: JSON.parse(body.toString()) };
  } catch {
    const error = { code: RPC.parseError, message: 'Parse error: the body is not JSON' };
    response.writeHead(400, { 'content-type': 'application/json' }).end(JSON.stringify({ jsonrpc: '2.0', error, id: null }));
    return undefined;
  }
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
