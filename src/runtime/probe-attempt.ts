/** A process of its own: tries one connection from the network namespace that it was started in, and prints what came of it as JSON. */
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';

const [, , ip = '', port = '', protocol = '', timeoutMs = ''] = process.argv;
const startedAt = performance.now();

const code = protocol === 'udp' ? await datagram() : await stream();
process.stdout.write(JSON.stringify({ code, latencyMs: performance.now() - startedAt }));

/** `OPEN`, `SILENT` after the timeout, or the kernel's error code. */
function stream(): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host: ip, port: Number(port) });
    const end = (result: string): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(result);
    };
    const timer = setTimeout(() => end('SILENT'), Number(timeoutMs));
    socket.once('connect', () => end('OPEN'));
    socket.once('error', (error) => end(codeOf(error)));
  });
}

/** A connected socket is told of refusals by the kernel, from the second datagram on; an answer is proof, silence is none. */
function datagram(): Promise<string> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4');
    const end = (result: string): void => {
      clearTimeout(timer);
      clearInterval(repeat);
      socket.close();
      resolve(result);
    };
    const timer = setTimeout(() => end('SILENT'), Number(timeoutMs));
    const send = (): void => socket.send('', (error) => (error === null ? undefined : end(codeOf(error))));
    const repeat = setInterval(send, 50);
    socket.once('message', () => end('OPEN'));
    socket.once('error', (error) => end(codeOf(error)));
    socket.connect(Number(port), ip, send);
  });
}

function codeOf(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}
