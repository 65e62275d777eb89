/** The answers that the proxy gives itself: short plain text that repeats nothing of the request. */
import { STATUS_CODES, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';

const REASONS: Readonly<Record<number, string>> = {
  400: 'bad request',
  404: 'no route',
  405: 'method not allowed',
  408: 'request timeout',
  403: 'network policies do not admit the ingress',
  413: 'body too large',
  431: 'header too large',
  500: 'internal error',
  501: 'not implemented',
  502: 'bad gateway',
  503: 'no healthy endpoint',
  504: 'endpoint timeout',
  505: 'HTTP version not supported',
  508: 'loop detected',
};

/** Answers with a status and its short body. The header must not have been sent yet. */
export function answer(response: ServerResponse, status: number): void {
  const body = `${REASONS[status] ?? STATUS_CODES[status] ?? 'error'}\n`;
  const headers = ['Content-Type', 'text/plain; charset=utf-8', 'Content-Length', String(Buffer.byteLength(body)), 'Cache-Control', 'no-store'];
  if (status === 503) headers.push('Retry-After', '1');
  response.writeHead(status, headers);
  response.end(body);
}

/** The same on a bare socket, for requests that the parser refused; the connection ends with it. */
export function answerRaw(socket: Duplex, status: number): void {
  const body = `${REASONS[status] ?? 'error'}\n`;
  endSoon(
    socket,
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'Error'}\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}

/** A client that does not close its end in this time has had the answer or never reads it. */
const CLOSE_WAIT_MS = 1_000;

/** Ends the connection after what was written, and lets go of it when the client does not. */
export function endSoon(socket: Duplex, lastWords = ''): void {
  const timer = setTimeout(() => socket.destroy(), CLOSE_WAIT_MS);
  socket.once('close', () => clearTimeout(timer));
  // What still comes is dropped: unread bytes would turn the close into a reset that overtakes the answer.
  socket.end(lastWords).resume();
}
