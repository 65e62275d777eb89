/** Serves metrics over HTTP on 127.0.0.1 and nothing else; it knows no metric and takes no command. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Logger } from 'pino';
import { toClawError } from '../errors.ts';

export interface MetricsHttpOptions {
  readonly port: number;
  readonly contentType: string;
  readonly text: () => Promise<string>;
  readonly logger: Logger;
}

export interface MetricsHttp {
  /** `failure` says why nobody listens: services do not depend on being measured, so that is no reason not to start. */
  readonly status: { readonly url?: string; readonly failure?: string };
  close(): Promise<void>;
}

const HOST = '127.0.0.1';
/** One Prometheus, its spare, and a person; whoever opens more takes their place among themselves. */
const MAX_CONNECTIONS = 32;
const TIMEOUT_MS = 10_000;

export async function openMetricsHttp(options: MetricsHttpOptions): Promise<MetricsHttp> {
  const { port, logger } = options;
  // Scrapes that come together get one answer, so that nobody can keep the agent busy with them.
  let running: Promise<string> | undefined;
  const text = (): Promise<string> => (running ??= options.text().finally(() => (running = undefined)));
  const server = createServer({ requestTimeout: TIMEOUT_MS, headersTimeout: TIMEOUT_MS, keepAliveTimeout: 75_000 }, (request, response) => {
    void respond({ ...options, text }, request, response);
  });
  server.maxConnections = MAX_CONNECTIONS;
  const failure = await new Promise<string | undefined>((resolve) => {
    server.once('error', (error) => resolve('code' in error && error.code === 'EADDRINUSE' ? `${HOST}:${port} is in use by another program` : error.message));
    server.listen(port, HOST, () => resolve(undefined));
  });
  server.on('error', (error) => logger.error({ err: error }, 'the metrics server met an error'));
  if (failure !== undefined) logger.error({ reason: failure }, 'metrics are not served');
  return {
    status: failure === undefined ? { url: `http://${HOST}:${port}/metrics` } : { failure },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function respond({ text, contentType, port, logger }: MetricsHttpOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const refusal = refusalOf(request, port);
  if (refusal !== undefined) return answer(response, refusal);
  try {
    answer(response, { status: 200, headers: { 'content-type': contentType, 'cache-control': 'no-store' }, body: await text() });
  } catch (error) {
    logger.error({ err: error }, 'metrics could not be read');
    answer(response, { status: 500, body: `${toClawError(error).message}\n` });
  }
}

interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: string;
}

function refusalOf({ headers, method, url = '' }: IncomingMessage, port: number): Answer | undefined {
  // A web page whose name was made to point here is told apart by that name (DNS rebinding).
  if (!isOwnName(headers.host ?? '', port)) return { status: 403, body: `only http://${HOST}:${port} and http://localhost:${port} are served\n` };
  if (method !== 'GET') return { status: 405, headers: { allow: 'GET' }, body: 'only GET is served\n' };
  return url.split('?', 1)[0] === '/metrics' ? undefined : { status: 404, body: 'only /metrics is served\n' };
}

function isOwnName(host: string, port: number): boolean {
  const names = [HOST, 'localhost'];
  return [...names.map((name) => `${name}:${port}`), ...(port === 80 ? names : [])].includes(host.toLowerCase());
}

function answer(response: ServerResponse, { status, headers = {}, body }: Answer): void {
  if (response.destroyed) return;
  // A body that came with a refused request is not waited for.
  const close = status === 200 ? {} : { connection: 'close' };
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', 'x-content-type-options': 'nosniff', ...close, ...headers }).end(body);
}
