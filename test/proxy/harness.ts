/** Starts the real proxy process and backends for its tests, and speaks raw HTTP to it; it asserts nothing. */
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer as createHttpServer, request as httpRequest, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import { connect, createServer, type AddressInfo, type Server as NetServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { start } from '../../src/drivers/exec.ts';
import { ipv4, port } from '../../src/model/address.ts';
import type { Route, RouteTarget } from '../../src/model/route-snapshot.ts';

const MAIN = fileURLToPath(new URL('../../src/proxy/main.ts', import.meta.url));

const healthShape = z.looseObject({
  pid: z.int(),
  version: z.int().nullable(),
  listening: z.array(z.string()),
  requests: z.int(),
  active: z.int(),
  connections: z.int(),
  endpoints: z.int(),
  draining: z.boolean(),
});
type Health = z.infer<typeof healthShape>;

export interface TestProxy {
  readonly port: number;
  readonly pid: number;
  readonly controlSocket: string;
  readonly directory: string;
  readonly stderr: () => string;
  readonly closeStderr: () => void;
  readonly control: (method: string, path: string, body?: unknown) => Promise<{ status: number; body: unknown }>;
  readonly health: () => Promise<Health>;
  /** Applies these rules under the next version; the answer's refused list. */
  readonly setRoutes: (...routes: Route[]) => Promise<unknown>;
  readonly signal: (name: NodeJS.Signals) => void;
  readonly exited: Promise<number | null>;
  readonly stop: () => Promise<void>;
}

export interface ProxyOptions {
  readonly limits?: Record<string, number>;
  readonly trustedProxies?: string[];
  readonly listenPath?: boolean;
  readonly dialLoopback?: boolean;
  readonly forbiddenRanges?: string[];
}

/** Ready when it resolves. */
export async function startProxy(options: ProxyOptions = {}): Promise<TestProxy> {
  const directory = await mkdtemp(join(tmpdir(), 'claw-proxy-'));
  const controlSocket = join(directory, 'control.sock');
  const config = {
    controlSocket,
    listen: [{ host: '127.0.0.1', port: 0 }, ...(options.listenPath === true ? [{ path: join(directory, 'http.sock') }] : [])],
    trustedProxies: options.trustedProxies ?? [],
    forbiddenRanges: options.forbiddenRanges ?? ['10.201.0.0/16'],
    dialLoopback: options.dialLoopback ?? true,
    limits: options.limits ?? {},
  };
  const child = spawnProxy(JSON.stringify(config));
  const control = (method: string, path: string, body?: unknown): Promise<{ status: number; body: unknown }> => controlCall(controlSocket, { method, path, body });
  const health = async (): Promise<Health> => healthShape.parse((await control('GET', '/v1/health')).body);
  const ready = await eventually(async () => {
    const found = await health();
    return found.listening.length === config.listen.length ? found : undefined;
  });
  let version = 0;
  return {
    port: Number(ready.listening[0]?.split(':').at(-1)),
    pid: ready.pid,
    controlSocket,
    directory,
    stderr: child.stderr,
    closeStderr: child.closeStderr,
    control,
    health,
    setRoutes: async (...routes) => {
      version += 1;
      const answer = await control('PUT', '/v1/routes', { version, routes });
      if (answer.status !== 200) throw new Error(JSON.stringify(answer));
      return answer.body;
    },
    signal: child.signal,
    exited: child.exited,
    stop: async () => {
      child.signal('SIGKILL');
      await child.exited;
      await rm(directory, { recursive: true });
    },
  };
}

/** The bare process, for tests of its start. */
export function spawnProxy(config: string): { exited: Promise<number | null>; stderr: () => string; closeStderr: () => void; signal: (name: NodeJS.Signals) => void } {
  const child = start([process.execPath, MAIN, config], { stdio: ['ignore', 'ignore', 'pipe'] });
  let text = '';
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  const exited = new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code)));
  return { exited, stderr: () => text, closeStderr: () => child.stderr?.destroy(), signal: (name) => void child.kill(name) };
}

export interface Backend {
  readonly target: RouteTarget;
  readonly server: NetServer;
  readonly sockets: ReadonlySet<Socket>;
  readonly close: () => Promise<void>;
}

/** An HTTP backend on node's own server. */
export function startBackend(listener: RequestListener, { keepAliveMs = 60_000 }: { keepAliveMs?: number } = {}): Promise<Backend> {
  const server: Server = createHttpServer({ keepAliveTimeout: keepAliveMs }, listener);
  return openBackend(server);
}

/** A backend that sees the proxy's bytes as they are. */
export function startRawBackend(onConnection: (socket: Socket) => void): Promise<Backend> {
  return openBackend(createServer({ noDelay: true }, onConnection));
}

async function openBackend(server: NetServer): Promise<Backend> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined).once('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    target: targetOf(addressOf(server).port),
    server,
    sockets,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      if (server.listening) await new Promise((resolve) => server.close(resolve));
    },
  };
}

export function targetOf(number: number, ip = '127.0.0.1'): RouteTarget {
  return { ip: ipv4.parse(ip), port: port.parse(number) };
}

/** A rule for `host`; `/` unless a path is given. */
export function rule(host: string, targets: RouteTarget[], path = '/'): Route {
  return { host, path, ingress: 'default/test', service: 'default/test', targets };
}

export function addressOf(server: NetServer): AddressInfo {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not a TCP server');
  return address;
}

/** Sends bytes and collects what comes until the other side closes, or until `until` holds for the text. */
export function exchange(where: number | string, bytes: string | Buffer, { until = () => false, timeoutMs = 8_000 }: { until?: (text: string) => boolean; timeoutMs?: number } = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = dial(where);
    let text = '';
    const finish = (): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(text);
    };
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new Error(`no end after ${timeoutMs} ms; so far: ${JSON.stringify(text.slice(0, 500))}`));
    }, timeoutMs);
    socket.setEncoding('latin1').on('data', (chunk: string) => {
      text += chunk;
      if (until(text)) finish();
    });
    socket.once('close', finish).on('error', () => undefined);
    socket.write(bytes);
  });
}

export function dial(where: number | string): Socket {
  return typeof where === 'number' ? connect(where, '127.0.0.1') : connect(where);
}

/** A request that closes its connection afterwards, as raw text. */
export function rawRequest(host: string, line = 'GET / HTTP/1.1', fields: readonly string[] = [], body = ''): string {
  return [line, `Host: ${host}`, 'Connection: close', ...fields, '', body].join('\r\n');
}

export function statusOf(answer: string): number {
  return Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1]);
}

export interface Fetched {
  readonly status: number;
  readonly message: IncomingMessage;
  readonly body: string;
}

/** A request through node's own client on a fresh connection. */
export function fetchText(where: number, { host, path = '/', method = 'GET', headers = {}, body }: { host: string; path?: string; method?: string; headers?: Record<string, string>; body?: string }): Promise<Fetched> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ host: '127.0.0.1', port: where, path, method, headers: { host, ...headers }, agent: false }, (message) => {
      let text = '';
      message.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      message.once('end', () => resolve({ status: message.statusCode ?? 0, message, body: text })).once('error', reject);
    });
    request.once('error', reject).end(body);
  });
}

/** Tries until the attempt neither throws nor answers undefined. */
export async function eventually<Value>(attempt: () => Promise<Value | undefined>, timeoutMs = 10_000): Promise<Value> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    try {
      const value = await attempt();
      if (value !== undefined) return value;
    } catch (error) {
      if (performance.now() > deadline) throw error;
    }
    if (performance.now() > deadline) throw new Error(`not so within ${timeoutMs} ms`);
    await sleep(20);
  }
}

/** Resident memory of a process in bytes. */
export async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024;
}

function controlCall(socketPath: string, { method, path, body }: { method: string; path: string; body: unknown }): Promise<{ status: number; body: unknown }> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ socketPath, method, path, agent: false }, (message) => {
      let text = '';
      message.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      message.once('end', () => resolve({ status: message.statusCode ?? 0, body: JSON.parse(text) })).once('error', reject);
    });
    request.once('error', reject).end(body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body));
  });
}
