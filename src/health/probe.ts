/** One probe of one address, by TCP connect or HTTP GET; it draws no conclusion beyond this one try. */
import http from 'node:http';
import net from 'node:net';
import type { Ipv4, Port } from '../model/address.ts';
import type { HealthCheck } from '../model/health-check.ts';

export type Outcome =
  | { readonly verdict: 'success' }
  | { readonly verdict: 'failure'; readonly error: string }
  /** This node could not even try, so nothing is known of the target. */
  | { readonly verdict: 'inconclusive'; readonly error: string };

export interface ProbeTarget {
  readonly ip: Ipv4;
  readonly port: Port;
  readonly check: HealthCheck;
}

const HEADERS_LIMIT_BYTES = 16 * 1024;
/** Of the whole answer; what comes after is cut. */
const ANSWER_LIMIT_BYTES = 64 * 1024;
const INFORMATIONAL_LIMIT = 8;
/** Shortages of this node: files, memory, free local ports. */
const OWN_SHORTAGES: ReadonlySet<string> = new Set(['EMFILE', 'ENFILE', 'ENOMEM', 'ENOBUFS', 'EADDRNOTAVAIL']);
const KNOWN_ERRORS: ReadonlyMap<string, string> = new Map([
  ['ECONNREFUSED', 'connection refused'],
  ['ECONNRESET', 'connection reset or closed before the answer'],
  ['EHOSTUNREACH', 'host unreachable'],
  ['ENETUNREACH', 'network unreachable'],
  ['EPERM', 'a firewall rule of this node forbids it'],
  ['HPE_HEADER_OVERFLOW', `answer with more than ${HEADERS_LIMIT_BYTES} bytes of headers`],
]);
// Connections are not kept: a check that reuses one does not notice that nobody accepts new ones.
const agent = new http.Agent({ keepAlive: false });

/**
 * Tries once and ends within `timeoutMs`, the socket destroyed. Failures are outcomes, never thrown; only an abort rejects, with the
 * signal's reason. The socket of a TCP check is closed with FIN, since a reset would end servers that do not expect one.
 */
export async function probe(target: ProbeTarget, signal: AbortSignal): Promise<Outcome> {
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<Outcome>();
  const { timeoutMs } = target.check;
  let atDeadline: Outcome = { verdict: 'failure', error: `no answer within ${timeoutMs} ms` };
  const headersCame = (outcome: Outcome): void => void (atDeadline = outcome);
  const started = target.check.type === 'tcp' ? connect(target, resolve) : get({ ...target, path: target.check.path }, { settle: resolve, headersCame });
  let late: NodeJS.Immediate | undefined;
  // After a pause of this process timers fire before sockets are read: what has arrived meanwhile counts.
  const timer = setTimeout(() => (late = setImmediate(() => resolve(atDeadline))), timeoutMs);
  const abort = (): void => reject(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await promise;
  } finally {
    signal.removeEventListener('abort', abort);
    clearTimeout(timer);
    clearImmediate(late);
    started.destroy();
  }
}

/** What a connect or request error says: of the target, or of this node only. */
export function outcomeOf(error: Error): Outcome {
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  if (OWN_SHORTAGES.has(code)) return { verdict: 'inconclusive', error: `this node could not try: ${error.message}` };
  const words = KNOWN_ERRORS.get(code) ?? (code.startsWith('HPE_') ? 'the answer is not HTTP/1.1' : error.message);
  return { verdict: 'failure', error: words };
}

type Settle = (outcome: Outcome) => void;

function connect({ ip, port }: ProbeTarget, settle: Settle): { destroy: () => void } {
  const socket = net.connect({ host: ip, port });
  socket.once('connect', () => settle({ verdict: 'success' }));
  // It stays for the errors that come after the outcome, which nobody needs any more.
  socket.on('error', (error) => settle(outcomeOf(error)));
  return socket;
}

/** The status decides. The body is read to its end or limit only so that servers do not see broken connections. */
function get({ ip, port, path }: Omit<ProbeTarget, 'check'> & { path: string }, { settle, headersCame }: { settle: Settle; headersCame: Settle }): { destroy: () => void } {
  const headers = { host: `${ip}:${port}`, 'user-agent': 'clawnode-health-check/1', accept: '*/*' };
  const request = http.request({ agent, host: ip, port, path, method: 'GET', headers, maxHeaderSize: HEADERS_LIMIT_BYTES });
  let informational = 0;
  request.on('information', () => {
    informational += 1;
    if (informational > INFORMATIONAL_LIMIT) settle({ verdict: 'failure', error: 'informational answers without end' });
  });
  request.on('upgrade', (response, socket) => {
    // From here on the socket is no longer the request's to destroy.
    socket.destroy();
    settle(outcomeOfStatus(response.statusCode ?? 0));
  });
  request.on('error', (error) => settle(outcomeOf(error)));
  request.on('response', (response) => {
    const outcome = outcomeOfStatus(response.statusCode ?? 0);
    headersCame(outcome);
    response.on('data', () => {
      if (response.socket.bytesRead > ANSWER_LIMIT_BYTES) settle(outcome);
    });
    // Whether the body is whole or breaks off, the status has been said.
    response.on('close', () => settle(outcome));
    response.on('error', () => settle(outcome));
  });
  request.end();
  return request;
}

function outcomeOfStatus(status: number): Outcome {
  return status >= 200 && status <= 399 ? { verdict: 'success' } : { verdict: 'failure', error: `HTTP ${status}` };
}
