/** The sessions of MCP over HTTP: a server and a transport for each, from its initialize to its end, at most so many. It reads no message. */
import { randomUUID } from 'node:crypto';
import { WebStandardStreamableHTTPServerTransport, type Server } from '@modelcontextprotocol/server';
import { ClawError } from '../errors.ts';
import { answerError } from './http.ts';
import { exchange, type Exchange } from './mcp-http-exchange.ts';

/** `lasting` is false for a server that answers one request and ends. What it runs ends with the signal. */
export type ServerFactory = (kind: { readonly lasting: boolean }, signal: AbortSignal) => Server;

export interface Sessions {
  /** Begins one with an initialize request and answers that. */
  open(first: Exchange): Promise<void>;
  /** False when there is no such session; then nothing was answered. */
  exchange(id: string, to: Exchange): Promise<boolean>;
}

const MAX_SESSIONS = 256;
/** Counted from the end of its last request or stream. Clients that are still there hold a stream open, and others begin anew. */
const IDLE_MS = 60 * 60_000;

interface Session {
  readonly transport: WebStandardStreamableHTTPServerTransport;
  readonly end: () => Promise<void>;
  /** Requests and streams that are open now. */
  open: number;
  idle: NodeJS.Timeout | undefined;
}

/** They all end when the signal aborts. */
export function openSessions(createServer: ServerFactory, signal: AbortSignal): Sessions {
  // In the order of their last use.
  const sessions = new Map<string, Session>();

  const use = async (id: string | undefined, session: Session, to: Exchange): Promise<void> => {
    clearTimeout(session.idle);
    session.open += 1;
    try {
      await exchange(session.transport, to);
    } finally {
      session.open -= 1;
      const known = id ?? session.transport.sessionId ?? '';
      // One that is not known here has ended meanwhile, or its initialize was refused.
      if (!sessions.delete(known)) await session.end();
      else {
        sessions.set(known, session);
        if (session.open === 0) session.idle = setTimeout(() => void session.end(), IDLE_MS).unref();
      }
    }
  };

  return {
    open: async (first) => {
      if (sessions.size >= MAX_SESSIONS && !(await endLongestIdle(sessions))) {
        const error = new ClawError('LIMIT_EXCEEDED', `${MAX_SESSIONS} sessions are open, and each is in use`, { hint: 'Close one with DELETE.' });
        return answerError(first.response, { status: 503, error });
      }
      const session = await begin(createServer, sessions, signal);
      await use(undefined, session, first);
    },
    exchange: async (id, to) => {
      const session = sessions.get(id);
      if (session === undefined) return false;
      await use(id, session, to);
      return true;
    },
  };
}

async function begin(createServer: ServerFactory, sessions: Map<string, Session>, signal: AbortSignal): Promise<Session> {
  const ended = new AbortController();
  const server = createServer({ lasting: true }, AbortSignal.any([signal, ended.signal]));
  const transport = new WebStandardStreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    onsessioninitialized: (id) => void sessions.set(id, session),
  });
  const end = (): Promise<void> => server.close();
  const session: Session = { transport, end, open: 0, idle: undefined };
  const stop = (): void => void end();
  // oxlint-disable-next-line unicorn/prefer-add-event-listener -- The SDK's server is no EventTarget.
  server.onclose = () => {
    signal.removeEventListener('abort', stop);
    clearTimeout(session.idle);
    sessions.delete(transport.sessionId ?? '');
    ended.abort();
  };
  signal.addEventListener('abort', stop, { once: true });
  await server.connect(transport);
  return session;
}

async function endLongestIdle(sessions: ReadonlyMap<string, Session>): Promise<boolean> {
  const idle = [...sessions.values()].find(({ open }) => open === 0);
  await idle?.end();
  return idle !== undefined;
}
