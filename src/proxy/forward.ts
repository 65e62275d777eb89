/** One request's way to an endpoint and back: attempts, streaming in both directions, failures. It chooses no route and parses nothing. */
import { STATUS_CODES, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Dispatcher } from 'undici';
import { answer } from './answers.ts';
import type { ProxyLimits } from './config.ts';
import { eject, pickEndpoint, readmit, type Endpoint, type EndpointGroup } from './endpoints.ts';
import { responseHeaders, responseTrailers } from './headers.ts';
import { openUpload, type Upload } from './upload.ts';

export interface ForwardOptions {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Normalised path with the query. */
  readonly path: string;
  readonly headers: string[];
  readonly hasBody: boolean;
  /** Whether the client waits for 100 (Continue) before it sends its body. */
  readonly expectsContinue: boolean;
  /** The endpoints as the routes name them now; asked again for every attempt. Undefined when the route is gone. */
  readonly endpoints: () => EndpointGroup | undefined;
  readonly limits: ProxyLimits;
  /** Called once, when nothing more is to come from either side. */
  readonly onDone: () => void;
}

export interface Exchange {
  /** The client is gone: what runs upstream is aborted. */
  readonly abandon: () => void;
}

/** RFC 9110, section 9.2.2: done twice, these do the same as once. */
const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE', 'TRACE']);
/** What a connection says that died before it gave an answer. Timeouts are not among them: the endpoint is still at work. */
const CONNECTION_LOST: ReadonlySet<string> = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE']);
/** A body that is not read to its end after an early answer is dropped for this long, then the connection is. */
const LINGER_MS = 5_000;
/** Endpoints that a request tries to connect to before it gives up. */
const MAX_CONNECT_ATTEMPTS = 5;

/** Sends the request to an endpoint and its answer to the client. Every failure ends in an answer or a destroyed connection. */
export function forward(options: ForwardOptions): Exchange {
  const exchange = new Forwarding(options);
  exchange.attempt();
  return exchange;
}

class Forwarding implements Exchange, Dispatcher.DispatchHandler {
  readonly #options: ForwardOptions;
  readonly #tried = new Set<Endpoint>();
  #endpoint: Endpoint | undefined;
  #upload: Upload | undefined;
  #controller: Dispatcher.DispatchController | undefined;
  /** A connection was there and the header went out. */
  #sent = false;
  /** At least one byte of an answer came. */
  #received = false;
  #repeated = false;
  #abandoned = false;
  #done = false;
  #continued = false;
  #bodyStarted = false;

  constructor(options: ForwardOptions) {
    this.#options = options;
  }

  attempt(): void {
    const { endpoints, limits } = this.#options;
    const group = this.#tried.size < MAX_CONNECT_ATTEMPTS ? endpoints() : undefined;
    const nowMs = performance.now();
    const endpoint = group && pickEndpoint(group, { tried: this.#tried, nowMs, maxActive: limits.maxRequestsPerEndpoint });
    if (endpoint === undefined) this.#fail(this.#tried.size > 0 ? 502 : group?.refused === true ? 403 : 503);
    else this.#dispatch(endpoint, endpoint.pool);
  }

  abandon(): void {
    if (this.#done || this.#abandoned) return;
    this.#abandoned = true;
    this.#controller?.abort(new Error('the client closed the connection'));
    this.#finish();
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#abandoned) {
      controller.abort(new Error('the client closed the connection'));
      return;
    }
    this.#sent = true;
    if (this.#endpoint !== undefined) readmit(this.#endpoint);
    // Only now is there someone to send the body to.
    if (this.#options.expectsContinue && !this.#continued) this.#options.response.writeContinue();
    this.#continued = true;
  }

  onResponseStarted(): void {
    this.#received = true;
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number, _headers: unknown, reason?: string): void {
    const { request, response, expectsContinue } = this.#options;
    if (this.#abandoned) return;
    const raw = flatten(controller.rawHeaders);
    const speaksHttp11 = request.httpVersionMinor > 0;
    if (status < 200) {
      if (speaksHttp11) passInterim(response, status, raw);
      return;
    }
    const hasBody = request.method !== 'HEAD' && status !== 204 && status !== 304;
    if (expectsContinue && !this.#continued) response.shouldKeepAlive = false;
    response.writeHead(status, reasonPhrase(status, reason), responseHeaders(raw, { announceTrailers: speaksHttp11 && hasBody }));
    response.on('drain', () => controller.resume());
    // A header whose body does not come in the same packet goes out at once: event streams begin with a header alone.
    queueMicrotask(() => {
      if (!this.#bodyStarted && !this.#done) response.flushHeaders();
    });
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#bodyStarted = true;
    if (!this.#abandoned && !this.#options.response.write(chunk)) controller.pause();
  }

  onResponseEnd(controller: Dispatcher.DispatchController): void {
    if (this.#abandoned) return;
    const { response } = this.#options;
    const trailers = flatten(controller.rawTrailers);
    if (trailers.length > 0) response.addTrailers(responseTrailers(trailers));
    response.end();
    this.#finish();
  }

  onResponseError(_controller: Dispatcher.DispatchController | null, error: Error): void {
    if (this.#abandoned || this.#done) return;
    const code = codeOf(error);
    if (this.#options.response.headersSent) this.#breakClient();
    else if (!this.#sent) this.#connectFailed(code);
    else if (this.#mayRepeat(code)) this.#repeat();
    else this.#fail(code === 'UND_ERR_HEADERS_TIMEOUT' ? 504 : 502);
  }

  #dispatch(endpoint: Endpoint, dispatcher: Dispatcher): void {
    const { request, path, headers, hasBody, limits } = this.#options;
    this.#release();
    this.#endpoint = endpoint;
    this.#tried.add(endpoint);
    this.#sent = false;
    this.#controller = undefined;
    endpoint.active += 1;
    this.#upload?.stream.destroy();
    this.#upload = hasBody ? openUpload(request, { maxBytes: limits.maxBodyBytes, onTooLarge: () => this.#bodyTooLarge() }) : undefined;
    dispatcher.dispatch({ path, method: request.method ?? 'GET', headers, body: this.#upload?.stream ?? null }, this);
  }

  /** Nothing was sent, so nothing can happen twice: whatever the method, the next endpoint is tried. */
  #connectFailed(code: string): void {
    if (code === 'UND_ERR_INVALID_ARG') {
      this.#fail(400);
      return;
    }
    const closedByRouteChange = code === 'UND_ERR_CLOSED' || code === 'UND_ERR_DESTROYED';
    if (this.#endpoint !== undefined && !closedByRouteChange) eject(this.#endpoint, performance.now());
    const untried = this.#options.endpoints()?.endpoints.some((endpoint) => !this.#tried.has(endpoint)) === true;
    if (untried) this.attempt();
    else this.#fail(code === 'UND_ERR_CONNECT_TIMEOUT' ? 504 : 502);
  }

  /** A kept-alive connection may have been closed by the other end just as the request went out. */
  #mayRepeat(code: string): boolean {
    const bodyIntact = this.#upload === undefined || !this.#upload.consumed();
    return !this.#repeated && !this.#received && bodyIntact && CONNECTION_LOST.has(code) && IDEMPOTENT.has(this.#options.request.method ?? '');
  }

  /** The second try never takes a kept-alive connection: that could be as stale as the first. */
  #repeat(): void {
    const { endpoints, limits } = this.#options;
    const group = endpoints();
    const other = group && pickEndpoint(group, { tried: this.#tried, nowMs: performance.now(), maxActive: limits.maxRequestsPerEndpoint });
    const same = group?.endpoints.find((endpoint) => endpoint === this.#endpoint);
    const endpoint = other ?? same;
    this.#repeated = true;
    if (endpoint === undefined) {
      this.#fail(502);
      return;
    }
    const client = endpoint.dialAnew();
    this.#dispatch(endpoint, client);
    // It closes when this one request is over; a failure of the request is told to the handler, not here.
    client.close().catch(() => undefined);
  }

  #bodyTooLarge(): void {
    if (this.#options.response.headersSent) {
      this.#controller?.abort(new Error('the request body is too large'));
      return;
    }
    this.#fail(413);
    this.#controller?.abort(new Error('the request body is too large'));
  }

  #fail(status: number): void {
    const { response, expectsContinue } = this.#options;
    if (this.#done) return;
    if (expectsContinue && !this.#continued) response.shouldKeepAlive = false;
    answer(response, status);
    this.#finish();
  }

  /** Half an answer is never ended as if it were whole. Where only the connection's end marks the body's, that end must be a reset. */
  #breakClient(): void {
    const { socket } = this.#options.request;
    if (socket.remoteAddress === undefined) socket.destroy();
    else socket.resetAndDestroy();
    this.#finish();
  }

  #release(): void {
    if (this.#endpoint !== undefined) this.#endpoint.active -= 1;
    this.#endpoint = undefined;
  }

  #finish(): void {
    if (this.#done) return;
    this.#done = true;
    this.#release();
    this.#upload?.stream.destroy();
    if (!this.#options.request.complete) dropRest(this.#options.request, this.#options.response);
    this.#options.onDone();
  }
}

/** After an early answer the rest of the body is read and dropped for a while, so that a reset does not overtake the answer. */
export function dropRest(request: IncomingMessage, response: ServerResponse): void {
  const { socket } = request;
  if (socket.destroyed) return;
  let timer: NodeJS.Timeout | undefined;
  const onFinish = (): void => {
    timer = setTimeout(() => socket.destroy(), LINGER_MS);
  };
  const stop = (): void => {
    clearTimeout(timer);
    socket.off('close', stop);
    response.off('finish', onFinish);
  };
  response.once('finish', onFinish);
  request.once('end', stop);
  socket.once('close', stop);
  request.resume();
}

/** 100 is ours to send and 101 was not asked for; other interim answers are passed on where node has a way to write them. */
function passInterim(response: ServerResponse, status: number, raw: readonly string[]): void {
  if (response.headersSent) return;
  if (status === 102) response.writeProcessing();
  if (status !== 103) return;
  const hints: Record<string, string | string[]> = {};
  const kept = responseHeaders(raw, { announceTrailers: false });
  for (let index = 0; index < kept.length; index += 2) {
    const name = (kept[index] ?? '').toLowerCase();
    const value = kept[index + 1] ?? '';
    const before = hints[name];
    hints[name] = before === undefined ? value : [...(Array.isArray(before) ? before : [before]), value];
  }
  if (hints['link'] !== undefined) response.writeEarlyHints(hints);
}

/** An upstream's own reason phrase, unless it holds what node would refuse to send. */
function reasonPhrase(status: number, reason: string | undefined): string {
  return reason !== undefined && /^[\t\u0020-\u007e\u0080-\u00ff]+$/.test(reason) ? reason : (STATUS_CODES[status] ?? '');
}

function flatten(raw: Dispatcher.DispatchController['rawHeaders']): string[] {
  return Array.isArray(raw) ? raw.map((part) => (typeof part === 'string' ? part : part.toString('latin1'))) : [];
}

function codeOf(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : '';
}
