/** The client of the agent's unix socket that every surface uses; it holds no state and never starts an agent. */
import { existsSync } from 'node:fs';
import { request, type IncomingMessage } from 'node:http';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { ClawError, ERROR_CODES } from '../errors.ts';

export const DEFAULT_SOCKET_PATH = '/run/clawnode/agent.sock';

/** An agent that was killed is back within a second; a busy machine may need two. */
export const RESTART_WAIT_MS = 2000;
const RETRY_MS = 50;

/** What `GET /v1/health` answers. */
export interface AgentHealth {
  readonly node: string;
  readonly mode: string;
  readonly version: string;
  readonly pid: number;
  readonly ready: boolean;
}

export interface AgentClient {
  readonly socketPath: string;
  /** Carries out one command and gives its answer. Throws the agent's own ClawError, or one of `connectAgent`'s. */
  readonly invoke: (command: string, params: unknown, signal: AbortSignal) => Promise<unknown>;
  readonly health: (signal: AbortSignal) => Promise<AgentHealth>;
}

/** The socket a client talks to: `CLAWNODE_SOCKET`, else the one of the machine's own agent. */
export function agentSocketPath(env: NodeJS.ProcessEnv = process.env): string {
  const wished = env['CLAWNODE_SOCKET'];
  return wished === undefined || wished === '' ? DEFAULT_SOCKET_PATH : wished;
}

/** What a surface tells the agent of itself: its name for the audit log, and what its session may do at most. */
export interface ClientOptions {
  readonly surface?: 'cli' | 'mcp' | 'openclaw';
  readonly readOnly?: boolean;
  readonly noDestructive?: boolean;
  readonly toolsets?: readonly string[];
  /** How long an agent that does not listen is waited for, because it may be restarting; 0 unless told. */
  readonly restartWaitMs?: number;
}

/** A client for the agent that this process is meant to use, or was told to; it waits for one that is there as a rule and is restarting. */
export function connectUsualAgent({ socketPath = agentSocketPath(), ...options }: ClientOptions & { readonly socketPath?: string } = {}): AgentClient {
  // Whoever named a socket knows of an agent. The default one says of itself whether a machine has one.
  const expected = socketPath !== DEFAULT_SOCKET_PATH || existsSync(socketPath);
  return connectAgent(socketPath, { ...options, restartWaitMs: expected ? RESTART_WAIT_MS : 0 });
}

/**
 * A client for the agent on this socket; nothing is dialled before the first call, and each call is its own connection.
 * Calls throw AGENT_UNREACHABLE (no agent there, or the connection broke), PERMISSION_DENIED (the socket is not ours to
 * use), CANCELLED (the signal), else what the agent answered.
 */
export function connectAgent(socketPath: string, { surface, restartWaitMs = 0, ...limits }: ClientOptions = {}): AgentClient {
  return {
    socketPath,
    invoke: async (command, params, signal) => {
      const body = bodyOf({ command, params, ...limits });
      const answer = await patientExchange({ socketPath, method: 'POST', path: '/v1/invoke', body, surface, signal }, restartWaitMs);
      const value = parseBody(answer);
      if (answer.status === 200) return value;
      throw errorFrom(value) ?? unintelligible('error', answer.status);
    },
    health: async (signal) => {
      const answer = await patientExchange({ socketPath, method: 'GET', path: '/v1/health', body: '', surface, signal }, restartWaitMs);
      return healthFrom(parseBody(answer), answer.status);
    },
  };
}

/** What a text made of JSON can hold may be nested deeper than the stack of whoever writes it again. */
function bodyOf(call: Readonly<Record<string, unknown>>): string {
  try {
    return JSON.stringify(call);
  } catch (error) {
    throw new ClawError('INVALID_ARGUMENT', 'the arguments are nested too deep, or are no JSON', { hint: 'No argument holds more than a few levels.', cause: error });
  }
}

/** The error that a JSON text holds, or undefined when it holds none. */
export function restoreError(text: string): ClawError | undefined {
  try {
    return errorFrom(JSON.parse(text));
  } catch {
    return undefined;
  }
}

interface Exchange {
  readonly socketPath: string;
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly body: string;
  readonly surface: string | undefined;
  readonly signal: AbortSignal;
}

interface Answer {
  readonly status: number;
  readonly body: string;
}

/** Tries again as long as nobody listens. Throws as `connectAgent` says. */
async function patientExchange(call: Exchange, restartWaitMs: number): Promise<Answer> {
  const { socketPath, signal } = call;
  const giveUpAt = performance.now() + restartWaitMs;
  for (;;) {
    try {
      return await exchange(call);
    } catch (error) {
      if (!nobodyListens(error) || signal.aborted || performance.now() >= giveUpAt) throw connectionError(error, { socketPath, restartWaitMs, signal });
    }
    // A cancelled wait ends in the next exchange, which then fails at once.
    await delay(RETRY_MS, undefined, { signal }).catch(() => undefined);
  }
}

/** Whether the failure is one of connect(2): nothing was sent, so nothing can have been carried out. */
export function nobodyListens(error: unknown): boolean {
  return ['ENOENT', 'ECONNREFUSED', 'EAGAIN'].includes(errnoOf(error));
}

function exchange({ socketPath, method, path, body, surface, signal }: Exchange): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', ...(surface === undefined ? {} : { 'x-clawnode-surface': surface }) };
    const outgoing = request({ socketPath, method, path, agent: false, signal, headers });
    outgoing.on('error', reject);
    outgoing.on('response', (response: IncomingMessage) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      response.on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: text }));
    });
    outgoing.end(body);
  });
}

interface Circumstances {
  readonly socketPath: string;
  readonly restartWaitMs: number;
  readonly signal: AbortSignal;
}

function connectionError(error: unknown, { socketPath, restartWaitMs, signal }: Circumstances): ClawError {
  if (signal.aborted) return new ClawError('CANCELLED', 'the call was cancelled before the agent answered', { cause: error });
  const errno = errnoOf(error);
  if (errno === 'EACCES' || errno === 'EPERM') {
    return new ClawError('PERMISSION_DENIED', `${socketPath} may not be used by this user`, {
      hint: "Run this as root or as a member of the socket's group, or open a private agent with `clawnode sandbox`.",
      cause: error,
    });
  }
  if (errno === 'ECONNRESET' || errno === 'EPIPE') {
    return new ClawError('AGENT_UNREACHABLE', `the agent on ${socketPath} went away before it answered`, {
      hint: 'The command may or may not have been carried out: look before you repeat it.',
      cause: error,
    });
  }
  const remedy = 'Start one with `sudo clawnode up`, or try things out with `clawnode sandbox`; CLAWNODE_SOCKET names another socket.';
  if (errno === 'ENOENT' && restartWaitMs === 0) {
    return new ClawError('AGENT_UNREACHABLE', `no agent runs here: there is no socket ${socketPath}`, { hint: remedy, cause: error });
  }
  return new ClawError('AGENT_UNREACHABLE', `no agent answers on ${socketPath}${errno === 'ENOENT' ? ', which does not exist' : ''}`, {
    hint: `It may be restarting: try again in a few seconds. ${remedy}`,
    cause: error,
  });
}

/** The system's name of a failure; empty when it has none. */
function errnoOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

function parseBody({ status, body }: Answer): unknown {
  try {
    return JSON.parse(body);
  } catch (error) {
    throw new ClawError('INTERNAL', `the agent answered ${status} with something that is not JSON`, { cause: error });
  }
}

/** Read by hand: loading a schema library would double the time of a small command. */
function errorFrom(value: unknown): ClawError | undefined {
  const code = ERROR_CODES.find((known) => known === stringAt(value, 'code'));
  const message = stringAt(value, 'message');
  if (code === undefined || message === undefined) return undefined;
  const path = stringAt(value, 'path');
  const hint = stringAt(value, 'hint');
  return new ClawError(code, message, { ...(path === undefined ? {} : { path }), ...(hint === undefined ? {} : { hint }) });
}

function healthFrom(value: unknown, status: number): AgentHealth {
  const node = stringAt(value, 'node');
  const mode = stringAt(value, 'mode');
  const version = stringAt(value, 'version');
  const pid = valueAt(value, 'pid');
  const ready = valueAt(value, 'ready');
  if (node === undefined || mode === undefined || version === undefined || typeof pid !== 'number' || typeof ready !== 'boolean') {
    throw unintelligible('health', status);
  }
  return { node, mode, version, pid, ready };
}

function unintelligible(what: string, status: number): ClawError {
  return new ClawError('INTERNAL', `the agent answered ${status} with a ${what} of an unknown form`, {
    hint: 'Agent and command line are probably of different versions: compare `clawnode --version` with `clawnode status`.',
  });
}

function stringAt(value: unknown, key: string): string | undefined {
  const found = valueAt(value, key);
  return typeof found === 'string' ? found : undefined;
}

function valueAt(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null ? Object.entries(value).find(([name]) => name === key)?.[1] : undefined;
}
