/** The program of one workload of a matrix: it serves ports, and dials all the targets that it is told at once. It judges nothing. */
import { z } from 'zod';

export const CONTROL_PORT = 7999;

export const PROTOCOLS = ['tcp', 'udp', 'sctp'] as const;
export type Protocol = (typeof PROTOCOLS)[number];

export interface Target {
  readonly protocol: Protocol;
  readonly ip: string;
  readonly port: number;
  /** What the answer should begin with. */
  readonly name: string;
}

/** For each target in its order: `answered`, `silent`, the errno, or what else was heard. */
export const outcomes = z.array(z.string());

/** Its whole command: the program comes by argument, since a workload may not see the files of the tests. */
export function matrixCommand(name: string, listen: readonly string[]): string[] {
  return [process.execPath, '-e', `(${program.toString()})(...process.argv.slice(1))`, String(CONTROL_PORT), name, ...listen];
}

/** Runs in a process of its own: it may use nothing of this module. A line of JSON on the control port is answered by one. */
async function program(control: string, name: string, ...listen: string[]): Promise<void> {
  const net = await import('node:net');
  const dgram = await import('node:dgram');
  const readline = await import('node:readline');
  const timeoutMs = 5000;

  for (const entry of listen) {
    const [protocol, port] = entry.split(':');
    if (protocol === 'udp') {
      const socket = dgram.createSocket('udp4');
      socket.on('error', () => undefined);
      socket.on('message', (_, peer) => socket.send(name, peer.port, peer.address));
      socket.bind(Number(port), '0.0.0.0');
    } else {
      const server = net.createServer((socket) => {
        socket.on('error', () => undefined);
        socket.write(name);
      });
      server.listen(Number(port), '0.0.0.0', 1024);
    }
  }

  const heard = (text: string, target: Target): string => (text.split(' ')[0] === target.name ? 'answered' : `answered by ${text}`);
  const errno = (error: Error): string => ('code' in error ? String(error.code) : error.message);

  const overTcp = (target: Target): Promise<string> =>
    new Promise((resolve) => {
      const socket = net.connect({ host: target.ip, port: target.port });
      const settle = (outcome: string): void => {
        clearTimeout(timer);
        // A reset leaves nothing behind in connection tracking that would be in the way of the next round.
        socket.resetAndDestroy();
        resolve(outcome);
      };
      const timer = setTimeout(settle, timeoutMs, 'silent');
      socket.on('data', (text) => settle(heard(text.toString(), target)));
      socket.on('error', (error) => settle(errno(error)));
      socket.on('end', () => settle('ended'));
    });

  const overUdp = (target: Target): Promise<string> =>
    new Promise((resolve) => {
      const socket = dgram.createSocket('udp4');
      let open = true;
      const settle = (outcome: string): void => {
        clearTimeout(timer);
        if (open) socket.close();
        open = false;
        resolve(outcome);
      };
      const timer = setTimeout(settle, timeoutMs, 'silent');
      socket.on('message', (text) => settle(heard(text.toString(), target)));
      socket.on('error', (error) => settle(errno(error)));
      // Only a connected socket learns of refusals.
      socket.connect(target.port, target.ip, () =>
        socket.send('who', (error) => {
          if (error !== null) settle(errno(error));
        }),
      );
    });

  const server = net.createServer((socket) => {
    socket.on('error', () => undefined);
    readline.createInterface({ input: socket }).on('line', (line) => {
      const targets: Target[] = JSON.parse(line);
      void Promise.all(targets.map((target) => (target.protocol === 'tcp' ? overTcp(target) : overUdp(target)))).then((all) => socket.write(`${JSON.stringify(all)}\n`));
    });
  });
  server.listen(Number(control), '0.0.0.0');
}
