/** Follows what the agent on a socket says has changed, also across its restarts; it knows no object. */
import { request, type IncomingMessage } from 'node:http';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { ClawError } from '../errors.ts';
import type { Change } from '../observed/changes.ts';

/** How a surface learns of changes. Each beginning, also after a restart of the agent, is a change without keys. */
export type FollowChanges = (signal: AbortSignal) => AsyncIterable<Change>;

export const CHANGES_PATH = '/v1/changes';

const AGAIN_MS = 200;

/** Ends with the signal alone. Throws AGENT_UNREACHABLE when the first agent that is asked does not tell of changes. */
export async function* followChanges(socketPath: string, signal: AbortSignal): AsyncGenerator<Change> {
  for (let begun = false; !signal.aborted; ) {
    try {
      for await (const change of oneConnection(socketPath, signal)) {
        begun = true;
        yield change;
      }
    } catch (error) {
      // An agent that is restarting is there again in a moment; then it begins with a change of anything.
      if (!begun && !signal.aborted) throw new ClawError('AGENT_UNREACHABLE', `the agent on ${socketPath} tells of no changes: ${String(error)}`, { cause: error });
    }
    await delay(AGAIN_MS, undefined, { signal }).catch(() => undefined);
  }
}

async function* oneConnection(socketPath: string, signal: AbortSignal): AsyncGenerator<Change> {
  const response = await open(socketPath, signal);
  try {
    if (response.statusCode !== 200) throw new Error(`it answered ${response.statusCode ?? 0}`);
    for await (const line of createInterface({ input: response, signal })) yield changeIn(line);
  } finally {
    response.destroy();
  }
}

function open(socketPath: string, signal: AbortSignal): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request({ socketPath, path: CHANGES_PATH, agent: false, signal }).once('response', resolve).once('error', reject).end();
  });
}

function changeIn(line: string): Change {
  const parsed: unknown = JSON.parse(line);
  const revision: unknown = typeof parsed === 'object' && parsed !== null && 'revision' in parsed ? parsed.revision : undefined;
  const keys: unknown = typeof parsed === 'object' && parsed !== null && 'keys' in parsed ? parsed.keys : undefined;
  if (typeof revision !== 'number') throw new Error(`it said ${line.slice(0, 80)}`);
  return { revision, ...(Array.isArray(keys) ? { keys: keys.map(String) } : {}) };
}
