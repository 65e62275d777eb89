/** Deletes or marks connection tracking entries that would lead traffic astray and tells how full the table is; it never adds one. */
import { readFile } from 'node:fs/promises';
import type { ConntrackFlush, ForbiddenFlow } from '../compile/kernel-state.ts';
import type { ConntrackSize } from '../model/conntrack.ts';
import { ProcessError, run, type Argv } from './exec.ts';

export interface ConntrackDriver {
  /** Deletes the entries. That there are none is no error; any other failure is (ClawError `PROCESS_FAILED`, `MISSING_BINARY`). */
  flush(list: readonly ConntrackFlush[], signal?: AbortSignal): Promise<void>;
  /** Gives the entries the mark (`VALUE/MASK`) by which rules refuse both directions of them. As with `flush`, that there are none is no error. */
  mark(list: readonly ForbiddenFlow[], mark: string, signal?: AbortSignal): Promise<void>;
  /** Deletes the UDP entries with this mark. */
  deleteMarked(mark: string, signal?: AbortSignal): Promise<void>;
  /** How many entries this network namespace holds, and how many it may hold; undefined where the kernel tracks nothing. */
  size(): Promise<ConntrackSize | undefined>;
}

export function openConntrack(): ConntrackDriver {
  return { flush, mark, deleteMarked: (value, signal) => changeEntries(['conntrack', '-D', '-p', 'udp', '--mark', value], signal), size };
}

async function flush(list: readonly ConntrackFlush[], signal?: AbortSignal): Promise<void> {
  await changeAll(list.flatMap(commandsFor), signal);
}

async function mark(list: readonly ForbiddenFlow[], value: string, signal?: AbortSignal): Promise<void> {
  await changeAll(list.map((entry) => ['conntrack', '-U', ...forbidden(entry), '--mark', value]), signal);
}

async function size(): Promise<ConntrackSize | undefined> {
  const [entries, maximum] = await Promise.all([readNumber('nf_conntrack_count'), readNumber('nf_conntrack_max')]);
  return entries === undefined || maximum === undefined ? undefined : { entries, maximum };
}

/** Undefined while the kernel's module is not loaded. */
async function readNumber(name: string): Promise<number | undefined> {
  try {
    return Number(await readFile(`/proc/sys/net/netfilter/${name}`, 'utf8'));
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

function commandsFor(entry: ConntrackFlush): Argv[] {
  // An entry that DNAT made knows the endpoint only as the source of its replies.
  if (entry.type === 'udp-endpoint') return [['conntrack', '-D', '-p', 'udp', '--orig-dst', entry.clusterIp, '--reply-src', entry.endpointIp]];
  if (entry.type === 'tcp-endpoint') {
    const original = ['--orig-dst', entry.clusterIp, '--orig-port-dst', String(entry.servicePort)];
    return [['conntrack', '-D', '-p', 'tcp', ...original, '--reply-src', entry.endpointIp, '--reply-port-src', String(entry.endpointPort)]];
  }
  if (entry.type === 'forbidden') return [['conntrack', '-D', ...forbidden(entry)]];
  return ['--orig-src', '--orig-dst', '--reply-src'].map((direction): Argv => ['conntrack', '-D', direction, entry.ip]);
}

function forbidden({ protocol, from, dialled, endpoint }: ForbiddenFlow): string[] {
  const ports = dialled.port === 0 ? [] : ['--orig-port-dst', String(dialled.port), '--reply-port-src', String(endpoint.port)];
  return ['-p', protocol, '--orig-src', from, '--orig-dst', dialled.ip, '--reply-src', endpoint.ip, ...ports];
}

async function changeAll(commands: readonly Argv[], signal: AbortSignal | undefined): Promise<void> {
  const waiting = [...commands];
  const worker = async (): Promise<void> => {
    for (let argv = waiting.shift(); argv !== undefined; argv = waiting.shift()) await changeEntries(argv, signal);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

async function changeEntries(argv: Argv, signal: AbortSignal | undefined): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    const startedAt = performance.now();
    const { exitCode, stderr } = await run(argv, { okExitCodes: [0, 1], ...(signal === undefined ? {} : { signal }) });
    // Exit code 1 also stands for real failures; only this message tells that there was no such entry.
    if (exitCode === 0 || / 0 flow entries have been (?:deleted|updated)/.test(stderr)) return;
    // It lists, then changes, and stops at an entry that went by itself in between: those behind it are as they were.
    const overtaken = OVERTAKEN.test(stderr) && attempt < MOST_ATTEMPTS;
    if (!overtaken) throw new ProcessError(argv, { exitCode, signal: null, stderr, durationMs: performance.now() - startedAt });
  }
}

const MOST_ATTEMPTS = 20;
/** What the kernel says of an entry that is gone when it is deleted, or marked. */
const OVERTAKEN = /Operation failed: (?:such conntrack doesn't exist|Protocol error)/;

/** Each change is a process: a few at once, so that hundreds do not take seconds. */
const AT_ONCE = 6;
