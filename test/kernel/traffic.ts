/** Traffic without pause for policy tests: a program in a workload's namespace that tries flows over and over, and counters at their destination; judges nothing. */
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { createConnection } from 'node:net';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { run, start } from '../../src/drivers/exec.ts';
import type { TestWorkload } from './agent-fixture.ts';
import { IPTABLES } from './backend.ts';
import { stdoutOf } from './namespace.ts';

const flow = z.object({
  /** `udp` sends from one port all the while, `udp-new` from a new one each time; `tcp-held` keeps what it could open and goes on asking there. */
  kind: z.enum(['tcp', 'tcp-held', 'udp', 'udp-new']),
  ip: z.string(),
  port: z.number(),
  /** Between the start of one try and that of the next. */
  everyMs: z.number(),
});
export type Flow = z.infer<typeof flow>;

const taken = z.object({
  tries: z.number(),
  /** When something got through (a connection, an answer), in ms since 1970. */
  passed: z.array(z.number()),
  /** How often each error was met; `SILENT` stands for no answer in time. */
  failures: z.record(z.string(), z.number()),
});
export type Taken = z.infer<typeof taken>;

export interface Traffic extends AsyncDisposable {
  /** What each flow, in their order, has met since the last call. */
  take(): Promise<readonly Taken[]>;
}

const SILENCE_MS = 2_000;
const MOST_AT_ONCE = 64;

/** Tries these flows from the workload until it is closed. */
export async function trafficFrom({ netns }: Pick<TestWorkload, 'netns'>, flows: readonly Flow[]): Promise<Traffic> {
  const child = start(['nsenter', `--net=/run/netns/${netns}`, process.execPath, import.meta.filename, JSON.stringify(flows)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const { stdin, stdout } = child;
  if (stdin === null || stdout === null) throw new Error('the traffic has no pipes');
  const lines = createInterface({ input: stdout });
  const take = (): Promise<readonly Taken[]> =>
    new Promise((resolve, reject) => {
      void ended.then(() => reject(new Error('the traffic has ended')));
      lines.once('line', (line) => resolve(z.array(taken).parse(JSON.parse(line))));
      stdin.write('take\n');
    });
  // It answers once it sends.
  await take();
  return {
    take,
    [Symbol.asyncDispose]: async () => {
      stdin.end();
      await ended;
    },
  };
}

export interface PacketCounter {
  /** How many packets of that source have arrived at the workload since the counter was set up. */
  packets(): Promise<number>;
}

/** Counts inside of the workload's own network, where whatever the node let through arrives. */
export async function countPackets({ netns }: Pick<TestWorkload, 'netns'>, source: string): Promise<PacketCounter> {
  const enter = ['nsenter', `--net=/run/netns/${netns}`] as const;
  await run([...enter, IPTABLES, '-I', 'INPUT', '-s', source]);
  return {
    packets: async () => {
      const rule = (await stdoutOf(...enter, `${IPTABLES}-save`, '-c', '-t', 'filter')).split('\n').find((line) => line.endsWith(`-A INPUT -s ${source}/32`));
      const count = /^\[(\d+):/.exec(rule ?? '')?.[1];
      if (count === undefined) throw new Error(`no rule counts packets of ${source}`);
      return Number(count);
    },
  };
}

/** The arguments of a server that talks first and goes on: a tick each 20 ms to whoever is connected. What it reads it ignores. */
export function tickerCommand(port: number): string[] {
  return [process.execPath, '-e', TICKER, String(port)];
}

const TICKER = `
  require('node:net').createServer((socket) => {
    const timer = setInterval(() => socket.write('tick\\n'), 20);
    socket.on('error', () => {});
    socket.on('close', () => clearInterval(timer));
    socket.resume();
  }).listen(Number(process.argv[1]), '0.0.0.0');
`;

interface Counts {
  tries: number;
  passed: number[];
  failures: Record<string, number>;
}

/** Starts the tries of one flow, and gives what takes the counts away. */
function tryWithoutPause({ kind, ip, port, everyMs }: Flow): () => Taken {
  let counts: Counts = { tries: 0, passed: [], failures: {} };
  let underWay = 0;
  let kept: UdpSocket | undefined;

  const passed = (): void => void counts.passed.push(performance.timeOrigin + performance.now());
  const failed = (error: string): void => void (counts.failures[error] = (counts.failures[error] ?? 0) + 1);

  const connect = (): void => {
    underWay += 1;
    const socket = createConnection({ host: ip, port });
    const silence = setTimeout(() => end('SILENT'), SILENCE_MS);
    let asking: NodeJS.Timeout | undefined;
    const end = (error?: string): void => {
      clearTimeout(silence);
      clearInterval(asking);
      socket.removeAllListeners().on('error', () => undefined).destroy();
      underWay -= 1;
      if (error !== undefined) failed(error);
    };
    socket.once('error', (error) => end(codeOf(error)));
    socket.once('end', () => end('ENDED'));
    // A connection alone is a leak already, yet only a greeting is success.
    socket.once('connect', passed);
    socket.once('data', () => {
      if (kind === 'tcp') return end();
      asking = setInterval(() => socket.write('?'), everyMs);
      socket.on('data', () => {
        silence.refresh();
        passed();
      });
    });
  };

  const send = (socket: UdpSocket): void => {
    socket.send('ping', (error) => {
      if (error !== null) failed(codeOf(error));
    });
  };

  const open = (then: (socket: UdpSocket) => void): void => {
    const socket = createSocket('udp4');
    socket.on('error', (error) => failed(codeOf(error)));
    socket.on('message', passed);
    socket.connect(port, ip, () => then(socket));
  };

  const sendAnew = (): void => {
    underWay += 1;
    open((socket) => {
      send(socket);
      setTimeout(() => {
        socket.close();
        underWay -= 1;
      }, 200);
    });
  };

  if (kind === 'udp') open((socket) => (kept = socket));
  setInterval(() => {
    if (underWay >= MOST_AT_ONCE || (kind === 'udp' && kept === undefined)) return;
    counts.tries += 1;
    if (kept !== undefined) send(kept);
    else if (kind === 'udp-new') sendAnew();
    else connect();
  }, everyMs);
  return () => {
    const took = counts;
    counts = { tries: 0, passed: [], failures: {} };
    return took;
  };
}

function codeOf(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}

if (import.meta.main) {
  const counters = z.array(flow).parse(JSON.parse(process.argv[2] ?? '')).map(tryWithoutPause);
  createInterface({ input: process.stdin })
    .on('line', () => process.stdout.write(`${JSON.stringify(counters.map((take) => take()))}\n`))
    .on('close', () => process.exit());
}
