/** Listens on the loopback address for programs of this machine: refuses foreign Host and Origin, then hands each path to its route. It knows no protocol above HTTP. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { ClawError, toClawError } from '../errors.ts';

export interface HttpRoute {
  /** The whole path, e.g. `/mcp`. */
  readonly path: string;
  /** Answers. What it throws is a defect. */
  readonly handle: (request: IncomingMessage, response: ServerResponse) => Promise<void>;
}

export interface LoopbackHttpOptions {
  /** 0 for any free one. */
  readonly port: number;
  readonly routes: readonly HttpRoute[];
  readonly onDefect: (error: unknown) => void;
}

export interface LoopbackHttp {
  readonly port: number;
  /** Takes no more requests and breaks off those that are still running. */
  close(): Promise<void>;
}

export const LOOPBACK = '127.0.0.1';

const HEADERS_TIMEOUT_MS = 10_000;
/** A whole request; its answer may take longer. */
const REQUEST_TIMEOUT_MS = 60_000;
const MAX_CONNECTIONS = 1_024;

/** Throws CONFIG_INVALID when the port is taken. */
export async function listenOnLoopback({ port, routes, onDefect }: LoopbackHttpOptions): Promise<LoopbackHttp> {
  const server = createServer({ headersTimeout: HEADERS_TIMEOUT_MS, requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    respond({ request, response, routes }).catch((error: unknown) => {
      // Whoever went away in the middle of a request is owed no answer.
      if (request.destroyed && !request.complete) return;
      onDefect(error);
      answerError(response, { status: 500, error: toClawError(error) });
    });
  });
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(notListening(port, error)));
    server.listen(port, LOOPBACK, resolve);
  });
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

export interface ErrorAnswer {
  readonly status: number;
  readonly error: ClawError;
  readonly headers?: Readonly<Record<string, string>>;
}

/** The error's JSON. A body that was not read is thrown away: closing on a client that still sends could lose it the answer. */
export function answerError(response: ServerResponse, { status, error, headers = {} }: ErrorAnswer): void {
  if (response.headersSent || response.destroyed) return void response.destroy();
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(error));
}

interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly routes: readonly HttpRoute[];
}

async function respond({ request, response, routes }: Exchange): Promise<void> {
  const foreign = foreignPart(request);
  if (foreign !== undefined) return answerError(response, { status: 403, error: foreign });
  const [path = ''] = (request.url ?? '').split('?', 1);
  const route = routes.find((candidate) => candidate.path === path);
  if (route !== undefined) return route.handle(request, response);
  const error = new ClawError('UNKNOWN_COMMAND', `${path.slice(0, 80)} is nothing that is served here`, { hint: `There is ${routes.map((known) => known.path).join(', ')}.` });
  answerError(response, { status: 404, error });
}

/** Names that lead here from this machine alone. A browser sends the name it was given, so a web page's own name is told apart (DNS rebinding). */
const OWN_NAMES = new Set([LOOPBACK, 'localhost', '[::1]']);

function foreignPart({ headers }: IncomingMessage): ClawError | undefined {
  const host = authority(`http://${headers.host ?? ''}`);
  const hint = `Use http://${LOOPBACK}:PORT or http://localhost:PORT, from a program and not from a web page.`;
  if (host === undefined || !OWN_NAMES.has(host.name)) {
    return new ClawError('NOT_ALLOWED', `the Host ${shown(headers.host)} is not this machine's loopback`, { path: 'Host', hint });
  }
  if (headers.origin === undefined) return undefined;
  const origin = authority(headers.origin);
  if (origin !== undefined && OWN_NAMES.has(origin.name) && origin.port === host.port) return undefined;
  return new ClawError('NOT_ALLOWED', `the Origin ${shown(headers.origin)} may not call this server`, { path: 'Origin', hint });
}

/** Of `http://localhost:8400`; undefined for anything else, also for one with a path or a user. */
function authority(origin: string): { name: string; port: string } | undefined {
  const [, name, port = '80'] = /^http:\/\/(\[[0-9a-f:]+\]|[a-z0-9.-]+)(?::(\d{1,5}))?$/i.exec(origin) ?? [];
  return name === undefined ? undefined : { name: name.toLowerCase(), port };
}

function shown(text: string | undefined): string {
  return text === undefined ? '(none)' : JSON.stringify(text.slice(0, 80));
}

function notListening(port: number, error: Error): ClawError {
  const taken = 'code' in error && error.code === 'EADDRINUSE';
  return new ClawError('CONFIG_INVALID', taken ? `port ${port} of ${LOOPBACK} is taken` : `${LOOPBACK}:${port} can not be listened on: ${error.message}`, {
    path: 'port',
    hint: 'Choose another one with --port, 0 for any free one.',
    cause: error,
  });
}
