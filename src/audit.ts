/** The audit log: one JSON line for every call and every refusal. It holds no secrets: values of environment variables are left out. */
import { appendFile, rename, stat } from 'node:fs/promises';
import type { Logger } from 'pino';
import type { ClawError } from './errors.ts';

export interface AuditEntry {
  readonly command: string;
  readonly params: unknown;
  readonly caller: { readonly surface: string; readonly peer: Promise<string> };
  readonly effect?: string;
  readonly durationMs: number;
  readonly revision?: number | undefined;
  /** Whether a change was in force when it was answered. */
  readonly enforced?: boolean | undefined;
  readonly error?: ClawError;
}

export interface AuditLog {
  /** Queued, in order; a log that can not be written is reported once to the agent's log. */
  write(entry: AuditEntry): void;
  close(): Promise<void>;
}

/** One older file is kept beside it, `audit.log.1`. */
const MAX_BYTES = 16 * 1024 * 1024;
/** A call's arguments are cut to this many characters: the log tells who did what, it is no copy of every manifest. */
const MAX_PARAMS = 4000;

export function openAuditLog(path: string, logger: Logger): AuditLog {
  let failed = false;
  let tail: Promise<void> = Promise.resolve();
  const append = async (entry: AuditEntry, time: string): Promise<void> => {
    try {
      await appendFile(path, `${JSON.stringify(await line(entry, time))}\n`, { mode: 0o600 });
      if ((await stat(path)).size > MAX_BYTES) await rename(path, `${path}.1`);
      failed = false;
    } catch (error) {
      if (!failed) logger.error({ err: error, path }, 'the audit log can not be written');
      failed = true;
    }
  };
  return {
    write: (entry) => {
      const time = new Date().toISOString();
      tail = tail.then(() => append(entry, time));
    },
    close: () => tail,
  };
}

async function line({ command, params, caller, effect, durationMs, revision, enforced, error }: AuditEntry, time: string) {
  return {
    time,
    peer: await caller.peer,
    surface: caller.surface,
    command,
    params: withoutSecrets(params),
    ...(effect === undefined ? {} : { effect }),
    result: error === undefined ? 'ok' : error.code,
    ...(error === undefined ? {} : { message: error.message }),
    ...(revision === undefined ? {} : { revision }),
    ...(enforced === undefined ? {} : { enforced }),
    durationMs: Math.round(durationMs * 10) / 10,
  };
}

function withoutSecrets(params: unknown): unknown {
  // What is no object of arguments is none of ours, and may be anything.
  if (typeof params !== 'object' || params === null || Array.isArray(params)) return params === undefined ? null : '...';
  try {
    // Also a misspelled `environment` or `Env` that is refused.
    const text = JSON.stringify(params, (key: string, value: unknown) => (/^env/i.test(key) ? concealed(value) : value));
    if (text === undefined) return null;
    return text.length > MAX_PARAMS ? `${text.slice(0, MAX_PARAMS)}...` : JSON.parse(text);
  } catch {
    // Nested deeper than the stack: that it was so is what the log can say of it.
    return 'nested too deep to be shown';
  }
}

/** The names of variables without their values; of anything else in their place nothing, for it may be a secret too. */
function concealed(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return '...';
  return Object.fromEntries(Object.keys(value).map((name) => [/^\w+$/.test(name) ? name : '...', '...']));
}
