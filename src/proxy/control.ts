/** The agent's side: a small HTTP API on a unix socket that takes route snapshots, tells health and starts the drain. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { ClawError, toClawError } from '../errors.ts';
import { listenOn } from './listening.ts';
import type { LiveRoutes } from './routes.ts';

export interface ProxyHealth {
  readonly pid: number;
  /** ISO 8601. */
  readonly startedAt: string;
  /** Of the applied snapshot; null before the first. */
  readonly version: number | null;
  /** `host:port` or a socket's path. */
  readonly listening: readonly string[];
  /** Has its routes and waits until its sibling no longer serves. */
  readonly standby: boolean;
  /** Requests since the start. */
  readonly requests: number;
  /** Requests running now. */
  readonly active: number;
  readonly connections: number;
  readonly routes: number;
  readonly endpoints: number;
  readonly draining: boolean;
}

export interface ControlOptions {
  readonly socketPath: string;
  readonly routes: Pick<LiveRoutes, 'apply' | 'version'>;
  readonly health: () => ProxyHealth;
  /** Asks for the graceful stop; returns at once. */
  readonly drain: () => void;
}

/** 100,000 rules with three endpoints each are some 30 MB. */
const MAX_BODY_BYTES = 128 * 1024 * 1024;

/** Serves the control API until `close`. The socket is created 0600 by the process's umask. Throws as `listenOn` does. */
export async function openControl(options: ControlOptions): Promise<{ breakIdle: () => void; close: () => Promise<void> }> {
  const server = createServer((request, response) => {
    respond(options, request).then(
      (body) => send(response, 200, body),
      (error: unknown) => sendError(response, toClawError(error), options.routes.version()),
    );
  });
  await listenOn(server, { path: options.socketPath });
  return {
    // Whoever watches the connection that its last look left open looks again.
    breakIdle: () => server.closeIdleConnections(),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeIdleConnections();
      }),
  };
}

async function respond({ routes, health, drain }: ControlOptions, request: IncomingMessage): Promise<unknown> {
  const call = `${request.method ?? ''} ${request.url ?? ''}`;
  switch (call) {
    case 'PUT /v1/routes':
      return await routes.apply(await readJson(request));
    case 'GET /v1/health':
      return health();
    case 'POST /v1/drain':
      drain();
      return { draining: true };
    default:
      throw new ClawError('UNKNOWN_COMMAND', `the proxy knows no ${call}`, { hint: 'PUT /v1/routes, GET /v1/health, POST /v1/drain' });
  }
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    if (!Buffer.isBuffer(chunk)) continue;
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) throw new ClawError('LIMIT_EXCEEDED', `a snapshot holds at most ${MAX_BODY_BYTES} bytes`);
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch (cause) {
    throw new ClawError('INVALID_ARGUMENT', 'the request body is not JSON', { cause });
  }
}

const STATUS: Partial<Record<string, number>> = { CONFLICT: 409, INVALID_ARGUMENT: 400, LIMIT_EXCEEDED: 413, UNKNOWN_COMMAND: 404 };

function sendError(response: ServerResponse, error: ClawError, version: number | undefined): void {
  send(response, STATUS[error.code] ?? 500, { error: error.toJSON(), version: version ?? null });
}

function send(response: ServerResponse, status: number, body: unknown): void {
  const text = JSON.stringify(body);
  response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) }).end(text);
}
