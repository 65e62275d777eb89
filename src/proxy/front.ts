/** The side that clients see: HTTP servers with their limits, and what is refused before anything is forwarded. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { isIPv4, type Socket } from 'node:net';
import { ipv4, contains } from '../model/address.ts';
import { answer, answerRaw, endSoon } from './answers.ts';
import type { ProxyConfig } from './config.ts';
import type { EndpointGroup } from './endpoints.ts';
import { dropRest, forward, type Exchange } from './forward.ts';
import { hasLooped, requestHeaders, type Peer } from './headers.ts';
import { boundAddress, listenOn } from './listening.ts';
import { parseRequestTarget, routingHost } from './request-target.ts';
import type { RoutingTable } from './routing-table.ts';

export interface FrontOptions {
  readonly config: ProxyConfig;
  /** The table in force; undefined before the first snapshot has come. */
  readonly table: () => RoutingTable<EndpointGroup> | undefined;
  /** This process's name in Via. */
  readonly pseudonym: string;
  /** A defect while handling one request; that request has been answered. */
  readonly onDefect: (error: unknown) => void;
}

export interface FrontCounters {
  /** Requests since the start, and those running now. */
  readonly requests: number;
  readonly active: number;
  readonly connections: number;
}

export interface Front {
  readonly listening: () => string[];
  readonly counters: () => FrontCounters;
  /** Takes no new connection, lets running requests end, then resolves; at the signal's abort the rest is cut off. */
  readonly drain: (deadline: AbortSignal) => Promise<void>;
}

/** Starts to listen on every address of the configuration. Throws as `listenOn` does; then nothing listens. */
export async function openFront(options: FrontOptions): Promise<Front> {
  const { config } = options;
  const state: FrontState = { options, connections: new WeakMap(), perClient: new Map(), sockets: new Set(), draining: false, requests: 0, active: 0 };
  const servers = config.listen.map(() => createFrontServer(state));
  try {
    for (const [index, address] of config.listen.entries()) {
      const server = servers[index];
      if (server !== undefined) await listenOn(server, address);
    }
  } catch (error) {
    for (const server of servers) server.close();
    throw error;
  }
  return {
    listening: () => config.listen.flatMap((address, index) => (servers[index]?.listening === true ? [boundAddress(servers[index], address)] : [])),
    counters: () => ({ requests: state.requests, active: state.active, connections: state.sockets.size }),
    drain: (deadline) => drain(state, servers, deadline),
  };
}

interface FrontState {
  readonly options: FrontOptions;
  readonly connections: WeakMap<Duplex, Connection>;
  /** Connections by client address. */
  readonly perClient: Map<string, number>;
  readonly sockets: Set<Socket>;
  draining: boolean;
  requests: number;
  active: number;
}

interface Connection {
  readonly peer: Peer;
  /** Answers that are not complete yet; a pipelining client can have several. */
  readonly running: Map<ServerResponse, Exchange>;
  latest: { readonly request: IncomingMessage; readonly response: ServerResponse } | undefined;
}

function createFrontServer(state: FrontState): Server {
  const { limits } = state.options.config;
  const server = createServer({
    insecureHTTPParser: false,
    // Checked below, where the answer is ours.
    requireHostHeader: false,
    keepAlive: true,
    noDelay: true,
    maxHeaderSize: limits.maxHeaderBytes,
    headersTimeout: Math.min(limits.clientHeadersTimeoutMs, limits.clientRequestTimeoutMs),
    requestTimeout: limits.clientRequestTimeoutMs,
    keepAliveTimeout: limits.clientKeepAliveMs,
    connectionsCheckingInterval: Math.min(1_000, limits.clientHeadersTimeoutMs),
  });
  // Node would silently cut the list of fields; its size in bytes is the limit.
  server.maxHeadersCount = 0;
  server.maxConnections = limits.maxConnections;
  server.timeout = limits.idleTimeoutMs;
  server.on('connection', (socket) => admitConnection(state, socket));
  server.on('request', (request, response) => handle(state, { request, response, expectsContinue: false }));
  server.on('checkContinue', (request, response) => handle(state, { request, response, expectsContinue: true }));
  // CONNECT asks for a tunnel. An Upgrade request without a listener for it is served as if it asked for nothing (RFC 9110, section 7.8).
  server.on('connect', (_request, socket) => answerRaw(socket, 405));
  server.on('clientError', (error, socket) => refuseMalformed(state, error, socket));
  return server;
}

function admitConnection(state: FrontState, socket: Socket): void {
  const { limits, trustedProxies } = state.options.config;
  const address = socket.remoteAddress?.replace(/^::ffff:(?=\d)/, '');
  const count = address === undefined ? 0 : (state.perClient.get(address) ?? 0) + 1;
  // All clients of a unix socket look alike; whoever publishes it counts them.
  if (address !== undefined && count > limits.maxConnectionsPerClient) {
    socket.destroy();
    return;
  }
  if (address !== undefined) state.perClient.set(address, count);
  state.sockets.add(socket);
  const trusted = address !== undefined && isIPv4(address) && trustedProxies.some((range) => contains(range, ipv4.parse(address)));
  const connection: Connection = { peer: { address, trusted }, running: new Map(), latest: undefined };
  state.connections.set(socket, connection);
  socket.once('close', () => {
    state.sockets.delete(socket);
    if (address !== undefined) leave(state.perClient, address);
    for (const exchange of connection.running.values()) exchange.abandon();
  });
}

function leave(perClient: Map<string, number>, address: string): void {
  const left = (perClient.get(address) ?? 1) - 1;
  if (left > 0) perClient.set(address, left);
  else perClient.delete(address);
}

interface Incoming {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly expectsContinue: boolean;
}

function handle(state: FrontState, incoming: Incoming): void {
  const { request, response, expectsContinue } = incoming;
  const connection = state.connections.get(request.socket);
  state.requests += 1;
  if (connection === undefined || connection.running.size >= state.options.config.limits.maxPipelinedRequests) {
    request.socket.destroy();
    return;
  }
  connection.latest = { request, response };
  if (state.draining) response.shouldKeepAlive = false;
  try {
    const refusal = admit(state, incoming, connection);
    if (refusal === undefined) return;
    // A client that waits for 100 may send its body or not, one that was misunderstood may go on with anything: only the end of the
    // connection keeps that apart from a next request.
    if (expectsContinue || CLOSING.has(refusal)) response.shouldKeepAlive = false;
    answer(response, refusal);
    if (!request.complete) dropRest(request, response);
  } catch (error) {
    if (response.headersSent) request.socket.destroy();
    else answer(response, 500);
    state.options.onDefect(error);
  }
}

const CLOSING: ReadonlySet<number> = new Set([400, 413, 501, 505]);

/** Forwards the request, or says with which status it is to be refused. */
function admit(state: FrontState, { request, response, expectsContinue }: Incoming, connection: Connection): number | undefined {
  const { config, pseudonym, table: currentTable } = state.options;
  const method = request.method ?? '';
  const framing = refuseFraming(request);
  if (framing !== undefined) return framing;
  const target = parseRequestTarget(method, request.url ?? '');
  if (target === undefined) return 400;
  if (target.kind === 'server') {
    response.writeHead(204).end();
    return undefined;
  }
  const authority = target.authority ?? request.headers.host;
  const host = authority === undefined ? undefined : routingHost(authority);
  if (authority !== undefined && host === undefined) return 400;
  if (method === 'TRACE') return 405;
  if (hasLooped(request, pseudonym)) return 508;
  if (currentTable() === undefined) return 503;
  const endpoints = (): EndpointGroup | undefined => (host === undefined ? undefined : currentTable()?.lookup(host, target.path));
  const group = endpoints();
  if (host !== undefined && target.loosePath !== undefined && currentTable()?.lookup(host, target.loosePath) !== group) return 400;
  if (group === undefined) return 404;
  if (Number(request.headers['content-length'] ?? 0) > config.limits.maxBodyBytes) return 413;
  state.active += 1;
  const onDone = (): void => {
    state.active -= 1;
    connection.running.delete(response);
  };
  const started: { exchange?: Exchange } = {};
  connection.running.set(response, { abandon: () => started.exchange?.abandon() });
  started.exchange = forward({
    request,
    response,
    path: target.path + target.query,
    headers: requestHeaders(request, { peer: connection.peer, authority: authority ?? '', scheme: 'http', pseudonym }),
    hasBody: request.headers['transfer-encoding'] !== undefined || Number(request.headers['content-length'] ?? 0) > 0,
    expectsContinue,
    endpoints,
    limits: config.limits,
    onDone,
  });
  return undefined;
}

/** What node's parser lets through, but two parties could read in two ways. */
function refuseFraming(request: IncomingMessage): number | undefined {
  const { rawHeaders, headers, httpVersion } = request;
  if (httpVersion !== '1.1' && httpVersion !== '1.0') return 505;
  let hosts = 0;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] ?? '';
    if (name.length === 4 && name.toLowerCase() === 'host') hosts += 1;
  }
  if (hosts > 1 || (hosts === 0 && httpVersion === '1.1')) return 400;
  const coding = headers['transfer-encoding'];
  if (coding === undefined) return undefined;
  if (headers['content-length'] !== undefined || httpVersion === '1.0') return 400;
  // Other codings would arrive upstream without the field that names them.
  return coding.toLowerCase() === 'chunked' ? undefined : 501;
}

/** What node's parser refuses. An answer is written only where it can be taken for nothing else. */
function refuseMalformed(state: FrontState, error: NodeJS.ErrnoException, socket: Duplex): void {
  const connection = state.connections.get(socket);
  const running = [...(connection?.running.keys() ?? [])];
  const inTheMiddle = running.length > 1 || running.some((response) => response.headersSent);
  if (!socket.writable || inTheMiddle || error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const { latest } = connection ?? {};
  // The rest of a body that was answered before its end.
  if (latest !== undefined && !latest.request.complete && latest.response.writableEnded) endSoon(socket);
  else if (error.code === 'HPE_HEADER_OVERFLOW') answerRaw(socket, 431);
  else if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT') answerRaw(socket, 408);
  else answerRaw(socket, 400);
  for (const exchange of connection?.running.values() ?? []) exchange.abandon();
}

/** Connections whose answer began before the drain stay open after it: they are looked for this often. */
const SWEEP_MS = 50;
/** What a client had sent before it could know of the drain has arrived by then. */
const SILENCE_MS = 500;

async function drain(state: FrontState, servers: readonly Server[], deadline: AbortSignal): Promise<void> {
  state.draining = true;
  const startedAt = performance.now();
  const cut = (): void => {
    for (const server of servers) server.closeAllConnections();
  };
  const sweep = setInterval(() => {
    for (const server of servers) server.closeIdleConnections();
    if (performance.now() - startedAt < SILENCE_MS) return;
    // Node counts a connection that has never spoken as busy.
    for (const socket of state.sockets) if (socket.bytesRead === 0) socket.destroy();
  }, SWEEP_MS);
  deadline.addEventListener('abort', cut, { once: true });
  const closed = servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve())));
  if (deadline.aborted) cut();
  try {
    await Promise.all(closed);
  } finally {
    clearInterval(sweep);
    deadline.removeEventListener('abort', cut);
  }
}
