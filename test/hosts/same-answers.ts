/** Carries out a script of calls in one way, holds what it reads against the command line's own words, and makes the answers of two runs comparable. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectAgent } from '../../src/surfaces/agent-client.ts';
import { findTool } from '../../tools/index.ts';
import type { Answer, Step } from './every-command.ts';
import { npmEnvironment, runToEnd } from './openclaw-host.ts';

/** What a call gave: its answer, or its error with code, path and hint. */
export type Said = { readonly answer: Answer } | { readonly error: unknown };

/** One way to make a call. */
export type Way = (command: string, params: Answer) => Promise<Said>;

export interface Told extends Step {
  readonly said: Said;
}

/** `clawnode invoke`, the program of the directory `bin`, on a socket. Throws when it prints anything but one JSON value. */
export function byCommandLine(bin: string, socketPath: string): Way {
  const env = { ...npmEnvironment(), CLAWNODE_SOCKET: socketPath };
  return async (command, params) => {
    const { exitCode, stdout, stderr } = await runToEnd([join(bin, 'clawnode'), 'invoke', command, JSON.stringify(params)], { env, timeoutMs: 60_000 });
    const failed = exitCode !== 0;
    assert.equal(failed ? stdout : stderr, '');
    return failed ? { error: JSON.parse(stderr) } : { answer: JSON.parse(stdout) };
  };
}

export interface Run {
  readonly way: Way;
  readonly commandLine: Way;
  readonly socketPath: string;
}

/** All calls, one after the other. Throws where a read is not, word by word, what the command line says of the same agent just then. */
export async function carryOut(steps: readonly Step[], { way, commandLine, socketPath }: Run): Promise<Told[]> {
  const told: Told[] = [];
  for (const step of steps) {
    const { command, params, after, once } = step;
    if (after !== undefined) await seen(after, socketPath);
    const said = await way(command, params);
    if (findTool(command)?.effect === 'read' && once !== true && way !== commandLine) {
      assert.deepEqual(atAnyMoment(command, said), atAnyMoment(command, await commandLine(command, params)), `${command} ${JSON.stringify(params)}`);
    }
    told.push({ ...step, said });
  }
  return told;
}

/** What two runs in two sandboxes have in common, if all goes the same way. */
export function comparable(told: readonly Told[]): unknown[] {
  const names = new Map<string, string>();
  return told.map(({ command, params, said }) => ({ command, params, said: withoutChance(atAnyMoment(command, said), names) }));
}

/** The commands of which not one call gave an answer. */
export function neverAnswered(told: readonly Told[]): string[] {
  const answered = new Set(told.flatMap(({ command, said }) => ('answer' in said ? [command] : [])));
  return [...new Set(told.map(({ command }) => command))].filter((command) => !answered.has(command));
}

/** What changes by itself from one call to the next, by command. */
const MOVING: Readonly<Record<string, readonly string[]>> = {
  // How long this attempt took.
  'network.probe': ['latencyMs'],
  // Connections that are being forgotten, and how long the newest pass over the rules took.
  'network.status': ['entries', 'lastPassMs'],
};

function atAnyMoment(command: string, said: Said): unknown {
  const moving = new Set(MOVING[command]);
  return mapped(said, (key, value) => (moving.has(key) ? `some ${typeof value}` : value));
}

/** Ids by the order in which they came, times as such, and the port that was free for a sandbox's ingress. */
function withoutChance(said: unknown, names: Map<string, string>): unknown {
  return mapped(said, (key, value) => {
    if (typeof value !== 'string') return value;
    if (/^[0-9a-f]{8}$/.test(value) && /^(id|containerId)$/.test(key)) return nameOf(value, names);
    if (/^(createdAt|time|listeningSince|lastRepairAt)$/.test(key)) return Number.isNaN(Date.parse(value)) ? value : 'a time';
    return value.replaceAll(/(?<=http:\/\/(?:127\.0\.0\.1|[a-z.]+\.example\.com):)\d+/g, 'PORT');
  });
}

function nameOf(id: string, names: Map<string, string>): string {
  const name = names.get(id) ?? `id ${names.size + 1}`;
  names.set(id, name);
  return name;
}

/** The same JSON value, where each value in it, from the inside out, is what `change` makes of it and its nearest key. */
function mapped(value: unknown, change: (key: string, value: unknown) => unknown, key = ''): unknown {
  if (Array.isArray(value)) return value.map((item: unknown) => mapped(item, change, key));
  if (typeof value !== 'object' || value === null) return change(key, value);
  return Object.fromEntries(Object.entries(value).map(([name, item]: [string, unknown]) => [name, mapped(item, change, name)]));
}

async function seen({ command, params, holds }: NonNullable<Step['after']>, socketPath: string): Promise<void> {
  const agent = connectAgent(socketPath);
  const deadline = AbortSignal.timeout(60_000);
  for (;;) {
    const answer = await agent.invoke(command, params, deadline);
    assert.ok(isAnswer(answer));
    if (holds(answer)) return;
    await sleep(50, undefined, { signal: deadline });
  }
}

function isAnswer(value: unknown): value is Answer {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
