/** `clawnode up --mode model`: the model behind a socket in the foreground, for every program that talks to an agent; it programs nothing. */
import { once } from 'node:events';
import { resolve } from 'node:path';
import type { Logger } from 'pino';
import { openModelAgent } from '../../model-agent.ts';
import { version } from '../../version.ts';
import { openAgentSocket } from '../agent-socket.ts';

export interface ModelOptions {
  readonly socketPath: string;
  readonly nodeId?: string;
  readonly configFile?: string;
  readonly logger: Logger;
}

/** Serves until the signal aborts. Throws AGENT_ALREADY_RUNNING when another agent answers on the socket. */
export async function serveModel({ socketPath, ...options }: ModelOptions, stop: AbortSignal): Promise<void> {
  const agent = await openModelAgent(options);
  try {
    const socket = await openAgentSocket({
      path: resolve(socketPath),
      gid: undefined,
      // Who is at the other end is the kernel's knowledge, and this runs where we know of none.
      peerOf: async () => 'unknown',
      health: () => ({ node: agent.node, mode: 'model', version: version(), pid: process.pid, ready: true }),
      changes: (until) => agent.changes(until),
      admit: () => () => undefined,
      onRefused: ({ surface, error }) => options.logger.warn({ surface, err: error }, 'what came is no call'),
      invoke: ({ command, params, limits, surface, peer }, until) => agent.invoke({ command, params, limits, caller: { surface, peer } }, until),
    });
    try {
      process.stderr.write(`clawnode ${version()}: node ${agent.node} is ready in model mode on ${socketPath}, pid ${process.pid}; nothing is enforced\n`);
      if (!stop.aborted) await once(stop, 'abort');
    } finally {
      await socket.close();
    }
  } finally {
    await agent.close();
  }
}
