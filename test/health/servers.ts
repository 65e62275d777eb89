/** Servers on loopback that answer health checks well, badly or not at all, and a way to wait for what should come about. */
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { ipv4, port, type Ipv4, type Port } from '../../src/model/address.ts';
import type { HealthCheck } from '../../src/model/health-check.ts';

export const LOOPBACK: Ipv4 = ipv4.parse('127.0.0.1');
const PATIENCE_MS = 20_000;

export interface Server extends AsyncDisposable {
  readonly port: Port;
  /** Connections that are open now. */
  readonly open: () => number;
  /** Connections ever accepted. */
  readonly accepted: () => number;
}

/** A TCP server; `serve` gets each connection. */
export async function tcpServer(serve: (socket: net.Socket) => void = () => undefined): Promise<Server> {
  return listening(net.createServer((socket) => serve(socket.resume())));
}

/** A TCP server that writes these bytes as soon as it is asked anything, and then says and does nothing. */
export async function rawServer(answer: string): Promise<Server> {
  return tcpServer((socket) => socket.once('data', () => socket.write(answer)));
}

export async function httpServer(serve: http.RequestListener): Promise<Server> {
  return listening(http.createServer(serve));
}

/** A port on which nothing listens: it was free a moment ago. */
export async function closedPort(): Promise<Port> {
  await using server = await tcpServer();
  return server.port;
}

/** A listener whose queue is full and never emptied: the kernel drops the SYN of whoever comes next. */
export async function deafServer(): Promise<AsyncDisposable & { readonly port: Port }> {
  const program = `
    const { parentPort } = require('node:worker_threads');
    const server = require('node:net').createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
      parentPort.postMessage(server.address().port);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    });`;
  const worker = new Worker(program, { eval: true });
  const [number] = await once(worker, 'message');
  const fillers = Array.from({ length: 8 }, () => net.connect({ host: LOOPBACK, port: port.parse(number) }).on('error', () => undefined));
  await until(() => fillers.some((filler) => !filler.connecting), 'the queue of the listener fills');
  await sleep(100);
  return {
    port: port.parse(number),
    [Symbol.asyncDispose]: async () => {
      for (const filler of fillers) filler.destroy();
      await worker.terminate();
    },
  };
}

export function tcpCheck(overrides: Partial<HealthCheck> = {}): HealthCheck {
  return { intervalMs: 20, timeoutMs: 10_000, failures: 1, successes: 1, ...overrides, type: 'tcp' };
}

export function httpCheck(path: string, overrides: Partial<Omit<HealthCheck, 'type'>> = {}): HealthCheck {
  return { intervalMs: 20, timeoutMs: 10_000, failures: 1, successes: 1, ...overrides, type: 'http', path };
}

/** Waits until it is so. Throws with `what` when it takes longer than any machine needs. */
export async function until(isSo: () => boolean, what: string): Promise<void> {
  const startedAt = performance.now();
  while (!isSo()) {
    if (performance.now() - startedAt > PATIENCE_MS) throw new Error(`in vain: ${what}`);
    await sleep(5);
  }
}

async function listening(server: net.Server): Promise<Server> {
  const sockets = new Set<net.Socket>();
  let accepted = 0;
  server.on('connection', (socket) => {
    accepted += 1;
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => sockets.delete(socket));
  });
  // The queue must hold every probe of the largest test.
  server.listen({ port: 0, host: LOOPBACK, backlog: 1024 });
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('it listens on no port');
  return {
    port: port.parse(address.port),
    open: () => sockets.size,
    accepted: () => accepted,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      const closed = once(server, 'close');
      server.close();
      await closed;
    },
  };
}
