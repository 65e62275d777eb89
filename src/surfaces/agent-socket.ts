/** The agent's unix socket: HTTP in front of the door, for every surface. It knows no command and decides nothing. */
import { once } from 'node:events';
import { chmod, chown, mkdir, readFile, rm, stat } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createConnection, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { callLimits, type CallLimits } from '../call-limits.ts';
import { ClawError, toClawError, type ErrorCode } from '../errors.ts';
import type { Admitted } from '../throttle.ts';
import { CHANGES_PATH, type FollowChanges } from './agent-changes.ts';

export interface AgentSocketOptions {
  readonly path: string;
  /** Group that may use the socket; its owner only when undefined. */
  readonly gid: number | undefined;
  readonly invoke: (call: SocketCall, signal: AbortSignal) => Promise<unknown>;
  readonly health: () => Record<string, unknown>;
  /** What `GET /v1/changes` tells, as long as the caller listens: one JSON object a line. */
  readonly changes: FollowChanges;
  /** Takes up a call before it is read, or one who listens for changes, and gives what ends it. Throws when there are too many. */
  readonly admit: (what: Admitted) => () => void;
  /** Told of what is refused here, before it is a call that `invoke` could tell of. */
  readonly onRefused: (refusal: Refusal) => void;
  /** Who is at the other end, for the audit log. */
  readonly peerOf: (socket: Socket) => Promise<string>;
}

export interface SocketCall {
  readonly command: string;
  readonly params: unknown;
  readonly surface: string;
  readonly peer: Promise<string>;
  readonly limits: CallLimits;
}

export interface Refusal extends Pick<SocketCall, 'surface' | 'peer'> {
  readonly error: ClawError;
}

export interface AgentSocket {
  /** Takes no new calls, lets running ones end, removes the socket. */
  close(): Promise<void>;
}

/** A call holds at most this many bytes: the largest command is 200 rules or 256 endpoints. */
const MAX_BODY_BYTES = 4 * 1024 * 1024;
/** Linux holds a socket's path in 108 bytes with the final NUL. */
const MAX_PATH_BYTES = 107;
/** Node.js keeps 511 callers waiting, and the kernel turns away the next: here too many are told so. net.core.somaxconn may be less. */
const BACKLOG = 4096;
const CLOSE_GRACE_MS = 15_000;
/** A call is counted before it is read, so one that never comes in whole must not count for ever. */
const REQUEST_TIMEOUT_MS = 60_000;

/** Listens. Throws AGENT_ALREADY_RUNNING when another agent answers on the path; a dead one's socket is replaced. */
export async function openAgentSocket(options: AgentSocketOptions): Promise<AgentSocket> {
  const { path, gid } = options;
  await refuseTakenSocket(path);
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  await rm(path, { force: true });

  const peers = new WeakMap<Socket, Promise<string>>();
  const closing = new AbortController();
  const server = createServer((request, response) => void serve(options, peers, { request, response, closing: closing.signal }));
  server.on('connection', (socket) => peers.set(socket, options.peerOf(socket)));
  // For the request alone: its answer may wait for the kernel as long as the caller likes.
  server.requestTimeout = REQUEST_TIMEOUT_MS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ path, backlog: BACKLOG }, resolve);
  });
  await chmod(path, 0o660);
  if (gid !== undefined) await chown(path, 0, gid);

  return {
    close: () =>
      new Promise((resolve) => {
        // Who listens for changes would do so for ever.
        closing.abort();
        const timer = setTimeout(() => server.closeAllConnections(), CLOSE_GRACE_MS);
        server.close(() => {
          clearTimeout(timer);
          resolve();
        });
        server.closeIdleConnections();
      }),
  };
}

/** Throws AGENT_ALREADY_RUNNING when another agent answers on the path, and CONFIG_INVALID when no socket can have it. */
export async function refuseTakenSocket(path: string): Promise<void> {
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
    throw new ClawError('CONFIG_INVALID', `the socket path ${path} has ${Buffer.byteLength(path)} bytes, and ${MAX_PATH_BYTES} is the most`, {
      path: 'socket',
      hint: 'Choose a shorter one with --socket.',
    });
  }
  const stats = await stat(path).catch(() => undefined);
  if (stats?.isSocket() === false) {
    throw new ClawError('CONFLICT', `${path} is there and is no socket, so it is not replaced`, { path: 'socket', hint: 'Choose another path, or move it away.' });
  }
  if (await answers(path)) {
    throw new ClawError('AGENT_ALREADY_RUNNING', `an agent answers on ${path} already`, { hint: '`clawnode status` shows it. Stop it first, or use it.' });
  }
}

/** Whether somebody listens on the socket. Only a refused or missing one is known to be nobody's. */
export function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error) => resolve(!('code' in error && (error.code === 'ECONNREFUSED' || error.code === 'ENOENT'))));
  });
}

/** The id of a group of this machine, undefined when there is none of that name. */
export async function groupId(group: string): Promise<number | undefined> {
  const line = (await readFile('/etc/group', 'utf8')).split('\n').find((entry) => entry.startsWith(`${group}:`));
  const id = line?.split(':')[2];
  return id === undefined ? undefined : Number(id);
}

interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Aborts when the socket is being closed. */
  readonly closing: AbortSignal;
}

async function serve(options: AgentSocketOptions, peers: WeakMap<Socket, Promise<string>>, { request, response, closing }: Exchange): Promise<void> {
  const gone = new AbortController();
  response.once('close', () => {
    if (!response.writableFinished) gone.abort(new ClawError('CANCELLED', 'the caller went away'));
  });
  // Always answered: it tells whether the agent is well, and costs nothing.
  if (request.method === 'GET' && request.url === '/v1/health') return answer(response, 200, options.health());
  const caller = { surface: header(request, 'x-clawnode-surface') ?? 'socket', peer: peers.get(request.socket) ?? Promise.resolve('unknown') };
  const fail = (error: ClawError): void => {
    // What it still sends is not read.
    if (!request.complete) response.setHeader('connection', 'close');
    answer(response, statusOf(error.code), error.toJSON());
  };
  let call: Omit<SocketCall, 'surface' | 'peer'>;
  try {
    const listens = request.method === 'GET' && request.url === CHANGES_PATH;
    response.once('close', options.admit(listens ? 'listener' : 'call'));
    if (listens) return await stream(response, options.changes, AbortSignal.any([gone.signal, closing]));
    call = await readCall(request);
  } catch (thrown) {
    // A stream that has begun is no call that could be refused.
    if (response.headersSent) return void response.destroy();
    const error = toClawError(thrown);
    options.onRefused({ ...caller, error });
    return fail(error);
  }
  try {
    answer(response, 200, await options.invoke({ ...call, ...caller }, gone.signal));
  } catch (thrown) {
    fail(toClawError(thrown));
  }
}

async function readCall(request: IncomingMessage): Promise<Omit<SocketCall, 'surface' | 'peer'>> {
  if (request.method === 'POST' && request.url === '/v1/invoke') return callOf(await readJson(request));
  throw new ClawError('UNKNOWN_COMMAND', `${request.method ?? ''} ${(request.url ?? '').slice(0, 80)} is nothing the agent serves`, { hint: 'POST /v1/invoke {command, params}.' });
}

async function stream(response: ServerResponse, changes: FollowChanges, until: AbortSignal): Promise<void> {
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  for await (const line of changes(until)) {
    if (!response.write(`${JSON.stringify(line)}\n`)) await once(response, 'drain', { signal: until }).catch(() => undefined);
  }
  // Who does not read would hold up the end of the agent.
  if (response.writableNeedDrain) response.destroy();
  else response.end();
}

function answer(response: ServerResponse, status: number, body: unknown): void {
  if (response.destroyed) return;
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    const bytes = Buffer.from(chunk);
    size += bytes.length;
    if (size > MAX_BODY_BYTES) throw new ClawError('LIMIT_EXCEEDED', `a call holds at most ${MAX_BODY_BYTES} bytes`, { hint: 'Split it.' });
    chunks.push(bytes);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString());
  } catch (error) {
    throw new ClawError('INVALID_ARGUMENT', 'the call is not JSON', { hint: 'Send {"command": "service.list", "params": {}}.', cause: error });
  }
}

/** `{command, params?, readOnly?, noDestructive?, toolsets?}`. */
function callOf(body: unknown): Omit<SocketCall, 'surface' | 'peer'> {
  const fields = typeof body === 'object' && body !== null ? new Map(Object.entries(body)) : new Map<string, unknown>();
  const command: unknown = fields.get('command');
  if (typeof command !== 'string') {
    throw new ClawError('INVALID_ARGUMENT', 'a call names its command', { path: 'command', hint: 'Send {"command": "service.list", "params": {}}.' });
  }
  return { command, params: fields.get('params'), limits: limitsOf(body) };
}

/** A limit that can not be read must not be taken for none. */
function limitsOf(body: unknown): CallLimits {
  const { data, error } = callLimits.safeParse(body);
  if (data !== undefined) return data;
  const [issue] = error.issues;
  throw new ClawError('INVALID_ARGUMENT', `the limits of the call can not be read: ${issue?.message ?? 'they are none'}`, {
    path: issue?.path.join('.') ?? '',
    hint: 'readOnly and noDestructive are true or false, toolsets is a list of names.',
  });
}

function header(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return typeof value === 'string' && /^[a-z-]{1,20}$/.test(value) ? value : undefined;
}

/** The code in the body is what counts; the status only sorts it for HTTP's sake. */
function statusOf(code: ErrorCode): number {
  if (code.endsWith('_NOT_FOUND') || code === 'UNKNOWN_COMMAND') return 404;
  if (code.endsWith('_EXISTS') || code === 'CONFLICT' || code === 'NAMESPACE_NOT_EMPTY') return 409;
  if (code === 'INTERNAL' || code === 'STORE_FAILED' || code === 'KERNEL_REFUSED' || code === 'PROCESS_FAILED') return 500;
  if (code === 'NOT_ALLOWED' || code === 'PERMISSION_DENIED') return 403;
  return 400;
}
