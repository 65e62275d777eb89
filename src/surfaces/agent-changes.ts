/** Follows what the agent on a socket says has changed, also across its restarts; it knows no object. */
import { request, type IncomingMessage } from 'node:http';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { ClawError } from '../errors.ts';
import type { Change } from '../observed/changes.ts';
import { nobodyListens, restoreError, RESTART_WAIT_MS } from './agent-client.ts';

/** How a surface learns of changes. Each beginning, also after a restart of the agent, is a change without keys. */
export type FollowChanges = (signal: AbortSignal) => AsyncIterable<Change>;

export const CHANGES_PATH = '/v1/changes';

const AGAIN_MS = 200;

/** Ends with the signal alone. Throws what the first agent that is asked refuses it with, or AGENT_UNREACHABLE when there is none or it tells of no changes. */
export async function* followChanges(socketPath: string, signal: AbortSignal): AsyncGenerator<Change> {
  const giveUpAt = performance.now() + RESTART_WAIT_MS;
  for (let begun = false; !signal.aborted; ) {
    try {
      for await (const change of oneConnection(socketPath, signal)) {
        begun = true;
        yield change;
      }
    } catch (error) {
      // An agent that is restarting is there again in a moment; then it begins with a change of anything.
      const restarting = begun || (nobodyListens(error) && performance.now() < giveUpAt);
      if (!restarting && !signal.aborted) throw refusal(socketPath, error);
    }
    await delay(AGAIN_MS, undefined, { signal }).catch(() => undefined);
  }
}

async function* oneConnection(socketPath: string, signal: AbortSignal): AsyncGenerator<Change> {
  const response = await open(socketPath, signal);
  try {
    if (response.statusCode !== 200) throw restoreError(await text(response)) ?? new Error(`it answered ${response.statusCode ?? 0}`);
    for await (const line of createInterface({ input: response, signal })) yield changeIn(line);
  } finally {
    response.destroy();
  }
}

/** An agent of an older version knows no changes to tell of. */
function refusal(socketPath: string, error: unknown): ClawError {
  if (error instanceof ClawError && error.code !== 'UNKNOWN_COMMAND') return error;
  const why = error instanceof Error ? error.message : String(error);
  return new ClawError('AGENT_UNREACHABLE', `the agent on ${socketPath} tells of no changes: ${why}`, { hint: '`clawnode status` shows whether it is well and of which version.', cause: error });
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
