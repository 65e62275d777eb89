/** A stand-in for the agent in tests of its clients: answers on a unix socket with what the command's name asks for. */
import { writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { text } from 'node:stream/consumers';

/**
 * `echo` answers its parameters, `fail` an error with all fields, `garbage` no JSON, `hang` nothing, `drop` breaks the
 * connection; `network.status` answers `status`.
 */
export interface FakeAgentOptions {
  readonly mode?: string;
  readonly status?: unknown;
}

export function fakeAgent({ mode = 'host', status = {} }: FakeAgentOptions = {}): Server {
  return createServer((request, response) => {
    void (async () => {
      if (request.url === '/v1/health') {
        response.end(JSON.stringify({ node: 'n1', mode, version: '0.0.0', pid: process.pid, ready: true }));
        return;
      }
      const body: unknown = JSON.parse(await text(request));
      const command = typeof body === 'object' && body !== null && 'command' in body ? body.command : undefined;
      const params = typeof body === 'object' && body !== null && 'params' in body ? body.params : undefined;
      if (command === 'echo') response.end(JSON.stringify(params));
      else if (command === 'network.status') response.end(JSON.stringify(status));
      else if (command === 'garbage') response.end('<html>');
      else if (command === 'drop') request.socket.destroy();
      else if (command !== 'hang') response.writeHead(404).end(JSON.stringify({ code: 'SERVICE_NOT_FOUND', message: 'no web', path: 'name', hint: 'look' }));
    })();
  });
}

// Started as a program, it is the agent of a sandbox: `fake-agent.ts SOCKET PIDFILE`.
if (import.meta.main) {
  const [socketPath, pidFile] = process.argv.slice(2);
  if (socketPath === undefined || pidFile === undefined) throw new Error('usage: fake-agent.ts SOCKET PIDFILE');
  writeFileSync(pidFile, String(process.pid));
  const server = fakeAgent({ mode: 'sandbox' });
  server.on('error', () => process.exit(1));
  const { rmSync } = await import('node:fs');
  rmSync(socketPath, { force: true });
  server.listen(socketPath);
}
