/** TCP and UDP clients for the agent's kernel tests, in this process or as a process of their own in a network namespace; judges nothing. */
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { createConnection, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { start } from '../../src/drivers/exec.ts';

const ask = z.object({
  op: z.enum(['tcp', 'udp', 'hold', 'echo', 'fate', 'end']),
  host: z.string(),
  port: z.number(),
  /** Source address. */
  from: z.string().optional(),
  /** Names a UDP socket or TCP connection that is kept and used again. */
  key: z.string().optional(),
  text: z.string().optional(),
  timeoutMs: z.number().optional(),
});
type Ask = z.infer<typeof ask>;

const attempt = z.object({ answer: z.string().optional(), error: z.string().optional(), ms: z.number() });
/** `answer` is what the server said (its name, the client's address and port as it saw them, its own port); `error` an errno or `SILENT`. */
export type Attempt = z.infer<typeof attempt>;

interface DialOptions {
  readonly from?: string;
  readonly timeoutMs?: number;
}

export interface Client {
  /** Connects, reads the server's greeting and closes. */
  tcp(host: string, port: number, options?: DialOptions): Promise<Attempt>;
  /** Sends one datagram and waits for its answer. With a key, from the same source port each time. */
  udp(host: string, port: number, options?: DialOptions & { readonly key?: string }): Promise<Attempt>;
  /** Connects, reads the greeting and keeps the connection under the key. */
  hold(key: string, host: string, port: number): Promise<Attempt>;
  /** Sends on a kept connection and reads the echo. */
  echo(key: string, text?: string): Promise<Attempt>;
  /** Waits, sending nothing, until a kept connection has ended, and gives what the client was told then: `ENDED` after an orderly end. */
  fate(key: string, options?: Pick<DialOptions, 'timeoutMs'>): Promise<Attempt>;
  /** Ends a kept connection in an orderly way. */
  end(key: string): Promise<Attempt>;
  close(): Promise<void>;
}

const SILENCE_MS = 3000;

/** A client in the network namespace of this process. */
export function localClient(): Client {
  const prober = createProber();
  return clientOf(prober.perform, async () => prober.close());
}

/** A client in the namespace of this name below /run/netns, as root there. */
export function clientIn(netns: string): Client {
  const child = start(['nsenter', `--net=/run/netns/${netns}`, process.execPath, import.meta.filename], { stdio: ['pipe', 'pipe', 'inherit'] });
  const waiting = new Map<number, (value: Attempt) => void>();
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const { stdin, stdout } = child;
  if (stdin === null || stdout === null) throw new Error('the client has no pipes');
  createInterface({ input: stdout }).on('line', (line) => {
    const { id, ...result } = numbered(attempt).parse(JSON.parse(line));
    waiting.get(id)?.(result);
    waiting.delete(id);
  });
  let asked = 0;
  return clientOf(
    (question) =>
      new Promise((resolve) => {
        asked += 1;
        waiting.set(asked, resolve);
        stdin.write(`${JSON.stringify({ id: asked, ...question })}\n`);
      }),
    async () => {
      stdin.end();
      await ended;
    },
  );
}

function clientOf(perform: (question: Ask) => Promise<Attempt>, close: () => Promise<void>): Client {
  return {
    tcp: (host, port, options = {}) => perform({ op: 'tcp', host, port, ...options }),
    udp: (host, port, options = {}) => perform({ op: 'udp', host, port, ...options }),
    hold: (key, host, port) => perform({ op: 'hold', key, host, port }),
    echo: (key, text = 'ping') => perform({ op: 'echo', key, text, host: '', port: 0 }),
    end: (key) => perform({ op: 'end', key, host: '', port: 0 }),
    fate: (key, options = {}) => perform({ op: 'fate', key, host: '', port: 0, ...options }),
    close,
  };
}

function numbered<Shape extends z.ZodRawShape>(schema: z.ZodObject<Shape>) {
  return schema.extend({ id: z.number() });
}

function createProber() {
  const connections = new Map<string, Socket>();
  const sockets = new Map<string, UdpSocket>();

  const perform = async (question: Ask): Promise<Attempt> => {
    const startedAt = performance.now();
    const { key = '', op } = question;
    const outcome = await act(op, connections.get(key), question);
    return { ...outcome, ms: performance.now() - startedAt };
  };

  const act = (op: Ask['op'], kept: Socket | undefined, question: Ask): Promise<Omit<Attempt, 'ms'>> => {
    if (op === 'udp') return datagram(question);
    if (op === 'echo') return speak(kept, question);
    if (op === 'end') kept?.end();
    return op === 'fate' || op === 'end' ? endOf(kept, question) : dial(question);
  };

  const dial = async ({ op, host, port, from, key = '', timeoutMs = SILENCE_MS }: Ask): Promise<Omit<Attempt, 'ms'>> => {
    const socket = createConnection({ host, port, ...(from === undefined ? {} : { localAddress: from }) });
    socket.setEncoding('utf8');
    const outcome = await firstOf(socket, timeoutMs);
    if (op === 'tcp' || outcome.error !== undefined) socket.destroy();
    else {
      connections.get(key)?.destroy();
      connections.set(key, socket);
    }
    return outcome;
  };

  const speak = async (socket: Socket | undefined, { text = '', timeoutMs = SILENCE_MS }: Ask): Promise<Omit<Attempt, 'ms'>> => {
    if (socket === undefined) return { error: 'NO_SUCH_CONNECTION' };
    socket.write(text);
    return firstOf(socket, timeoutMs);
  };

  const endOf = async (socket: Socket | undefined, { timeoutMs = SILENCE_MS }: Ask): Promise<Omit<Attempt, 'ms'>> => {
    if (socket === undefined) return { error: 'NO_SUCH_CONNECTION' };
    // One that is not read is not told of its end.
    socket.resume();
    const told = (): Omit<Attempt, 'ms'> => ({ error: socket.errored === null || socket.errored === undefined ? 'ENDED' : codeOf(socket.errored) });
    if (socket.closed) return told();
    return new Promise((resolve) => {
      const closed = (): void => {
        clearTimeout(timer);
        resolve(told());
      };
      const timer = setTimeout(() => {
        socket.removeListener('close', closed);
        resolve({ error: 'SILENT' });
      }, timeoutMs);
      socket.once('close', closed);
    });
  };

  const datagram = async ({ host, port, from, key, timeoutMs = SILENCE_MS }: Ask): Promise<Omit<Attempt, 'ms'>> => {
    const socket = (key === undefined ? undefined : sockets.get(key)) ?? (await connectedSocket({ host, port, from }));
    if (socket instanceof Error) return { error: codeOf(socket) };
    if (key !== undefined) sockets.set(key, socket);
    try {
      return await new Promise((resolve) => {
        const timer = setTimeout(() => resolve({ error: 'SILENT' }), timeoutMs);
        const settle = (outcome: Omit<Attempt, 'ms'>): void => {
          clearTimeout(timer);
          resolve(outcome);
        };
        socket.once('message', (message) => settle({ answer: message.toString() }));
        // An ICMP error that came for an earlier datagram is told too; either way the socket was refused.
        socket.once('error', (error) => settle({ error: codeOf(error) }));
        socket.send('ping', (error) => {
          if (error !== null) settle({ error: codeOf(error) });
        });
      });
    } finally {
      socket.removeAllListeners('message');
      socket.removeAllListeners('error');
      socket.on('error', () => undefined);
      if (key === undefined) socket.close();
    }
  };

  const close = (): void => {
    for (const socket of connections.values()) socket.destroy();
    for (const socket of sockets.values()) socket.close();
  };
  return { perform, close };
}

/** The first text, error or end of a connection. */
function firstOf(socket: Socket, timeoutMs: number): Promise<Omit<Attempt, 'ms'>> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => settle({ error: 'SILENT' }), timeoutMs);
    const settle = (outcome: Omit<Attempt, 'ms'>): void => {
      clearTimeout(timer);
      socket.removeAllListeners('data').removeAllListeners('end').removeAllListeners('error');
      socket.on('error', () => undefined);
      resolve(outcome);
    };
    socket.once('data', (text) => settle({ answer: String(text).trim() }));
    socket.once('error', (error) => settle({ error: codeOf(error) }));
    socket.once('end', () => settle({ error: 'ENDED' }));
  });
}

/** A connected socket learns of ICMP errors; one that is not connected never does. */
function connectedSocket({ host, port, from }: Pick<Ask, 'host' | 'port' | 'from'>): Promise<UdpSocket | Error> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4');
    const fail = (error: Error): void => {
      socket.close();
      resolve(error);
    };
    socket.once('error', fail);
    socket.bind(0, from ?? '0.0.0.0', () =>
      socket.connect(port, host, (error?: Error) => {
        socket.removeListener('error', fail);
        if (error instanceof Error) fail(error);
        else resolve(socket);
      }),
    );
  });
}

function codeOf(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}

if (import.meta.main) {
  const prober = createProber();
  const lines = createInterface({ input: process.stdin });
  lines.on('line', (line) => {
    const { id, ...question } = numbered(ask).parse(JSON.parse(line));
    void prober.perform(question).then((result) => process.stdout.write(`${JSON.stringify({ id, ...result })}\n`));
  });
  lines.on('close', () => prober.close());
}
