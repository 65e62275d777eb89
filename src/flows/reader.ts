/** Keeps ulogd running on our log group and hands on the lines that it writes; it never reads what they mean. */
import { readFileSync, rmSync } from 'node:fs';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { once } from 'node:events';
import { watchLines } from '../drivers/drift-watch-lines.ts';
import { NFLOG_GROUP } from '../model/flow.ts';
import { EVENT_SOCKET, missingUlogd, ulogdConfig } from './ulogd-config.ts';

export interface ReaderOptions {
  /** Its own, below one that only root may enter: what may write to the socket in it could make events up. */
  readonly directory: string;
  /** What ulogd runs as where there are other users; it parses what strangers send. */
  readonly uid: number | undefined;
  readonly onLine: (line: string) => void;
  /** ulogd listens to the kernel and is connected, the first time or again: its numbering starts anew. */
  readonly onConnected: () => void;
  /** It is not, and why; it is started again by itself. */
  readonly onLost: (reason: string) => void;
}

export interface Reader {
  close(): Promise<void>;
}

const MOST_UNREAD = 64 * 1024;
const ENDED = 'ulogd has ended and is started again';

/** Resolves before ulogd is connected, also where it can not be started. Throws where the directory can not be used. */
export async function openReader({ directory, uid, onLine, onConnected, onLost }: ReaderOptions): Promise<Reader> {
  await mkdir(directory, { recursive: true });
  // ulogd stands in it and needs no way to it, so another user gets past the directory above.
  await chmod(directory, uid === undefined ? 0o700 : 0o711);
  await writeFile(join(directory, 'ulogd.conf'), ulogdConfig());
  await chmod(join(directory, 'ulogd.conf'), 0o644);
  let current: Socket | undefined;
  const server = createServer((socket) => {
    current?.destroy();
    current = socket;
    onConnected();
    readLines(socket, onLine);
    socket.on('error', () => undefined);
    socket.once('close', () => {
      if (current !== socket) return;
      current = undefined;
      onLost(ENDED);
    });
  });
  await listen(server, join(directory, EVENT_SOCKET));
  if (uid !== undefined) await chmod(join(directory, EVENT_SOCKET), 0o666);

  let words = '';
  const watch = watchLines({
    argv: ['env', '-C', directory, ...rights(uid), 'ulogd', '-c', 'ulogd.conf'],
    onLines: (lines) => {
      // The first one names the cause, what follows the consequences.
      if (words === '') words = lines.map(complaint).find((text) => text !== undefined) ?? '';
    },
    onStart: () => {
      words = '';
    },
    onEnd: (reason) => onLost(missingUlogd() ?? whyItEnded(words, reason)),
  });

  return {
    close: async () => {
      // Its end is wanted now, and nobody is told that it was lost.
      const last = current;
      current = undefined;
      await watch.close();
      last?.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

/** No group of the machine may have the number of the uid, but one might: it gets nogroup. */
const NOGROUP = 65_534;

/** To listen to the kernel it needs this one capability. The outer setpriv's order to die with us is lost with a change of rights. */
function rights(uid: number | undefined): string[] {
  const keep = ['--bounding-set', '-all,+net_admin', '--no-new-privs', '--pdeathsig', 'KILL', '--'];
  if (uid === undefined) return ['setpriv', '--inh-caps', '-all', ...keep];
  return ['setpriv', `--reuid=${uid}`, `--regid=${NOGROUP}`, '--clear-groups', '--inh-caps', '-all,+net_admin', '--ambient-caps', '-all,+net_admin', ...keep];
}

/** A file that a dead agent left is in the way; no other agent lives with this state directory. */
async function listen(server: Server, path: string): Promise<void> {
  rmSync(path, { force: true });
  server.listen(path);
  await once(server, 'listening');
}

function readLines(socket: Socket, onLine: (line: string) => void): void {
  let unread = '';
  socket.setEncoding('utf8').on('data', (text: string) => {
    const lines = (unread + text).split('\n');
    unread = (lines.pop() ?? '').slice(-MOST_UNREAD);
    for (const line of lines) if (line !== '') onLine(line);
  });
}

/** The words of an error or fatal line: `Thu Nov 26 13:19:17 2026 <7> ulogd_inppkt_NFLOG.c:619 unable to bind to log group 200`. */
function complaint(line: string): string | undefined {
  const words = /<[78]> \S+:\d+ (.*)/.exec(line)?.[1];
  // Without the right to it, it runs at the usual priority.
  return words?.includes('nice process') === true ? undefined : words;
}

function whyItEnded(words: string, reason: string): string {
  // `env ended (1) setpriv: ...`; that it may not choose its priority is nothing to tell.
  const said = words === '' ? reason.replace(/^env ended \(\w+\)/, '').replace(/^WARNING: scheduler.*$/m, '').trim() : words;
  const holder = words === '' ? undefined : holderOfGroup();
  return `${ENDED}${said === '' ? '' : `: ${said}`}${holder === undefined ? '' : ` (log group ${NFLOG_GROUP} is held by ${holder})`}`;
}

/** The kernel names who listens to each log group by its netlink port, which is the pid of most programs. */
function holderOfGroup(): string | undefined {
  try {
    const lines = readFileSync('/proc/net/netfilter/nfnetlink_log', 'utf8').split('\n');
    const port = lines.map((line) => line.trim().split(/\s+/)).find(([group]) => group === String(NFLOG_GROUP))?.[1];
    return port === undefined ? undefined : `process ${port} ${readFileSync(`/proc/${port}/comm`, 'utf8').trim()}`;
  } catch {
    // The name of the holder is an extra: the reason stands without it.
    return undefined;
  }
}
