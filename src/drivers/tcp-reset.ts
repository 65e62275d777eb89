/** Ends TCP connections by destroying one of their sockets, which tells both ends with a reset; it chooses none. */
import type { SocketAddress, SocketEnd } from '../compile/tcp-flows.ts';
import { run, type Argv } from './exec.ts';

/** So many are named in one call: an argument list is bounded. */
const AT_ONCE = 200;

/**
 * What has gone by itself is no error. A kernel without CONFIG_INET_DIAG_DESTROY destroys nothing and says so only on stderr: there
 * a connection ends when it next sends something, once its conntrack entry is gone.
 */
export async function resetSockets(ends: readonly SocketEnd[], signal?: AbortSignal): Promise<void> {
  for (const [netns, group] of Map.groupBy(ends, (end) => end.netns)) {
    const enter = netns === undefined ? [] : ['nsenter', `--net=/run/netns/${netns}`];
    for (let at = 0; at < group.length; at += AT_ONCE) {
      const filter = group.slice(at, at + AT_ONCE).flatMap(({ local, remote }, index) => [...(index === 0 ? [] : ['or']), '(', 'src', text(local), 'and', 'dst', text(remote), ')']);
      const [program = 'ss', ...args] = [...enter, 'ss', '--tcp', '--no-header', '--numeric', '--kill', ...filter];
      const argv: Argv = [program, ...args];
      await run(argv, signal === undefined ? {} : { signal });
    }
  }
}

function text({ ip, port }: SocketAddress): string {
  return `${ip}:${port}`;
}
