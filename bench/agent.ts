/** Agents in host mode for the benches: each a process of its own in a network namespace of its own, asked over one kept connection. */
import { once } from 'node:events';
import { readFile, writeFile, mkdir } from 'node:fs/promises';
import { Agent as HttpAgent, request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { z } from 'zod';
import { run, start } from '../src/drivers/exec.ts';
import { restoreError } from '../src/surfaces/agent-client.ts';
import { stateDirectory } from './inside.ts';

const launcher = join(import.meta.dirname, '..', 'bin', 'clawnode.js');
const START_TIMEOUT_MS = 60_000;

export interface BenchAgent {
  readonly pid: number;
  /** The answer of one command; throws the agent's ClawError. */
  invoke<Answer>(answer: z.ZodType<Answer>, command: string, params?: unknown): Promise<Answer>;
  /** SIGTERM, and waits for the end. */
  stop(): Promise<void>;
}

export interface AgentOptions {
  /** The name of a network namespace that exists, and of its state. */
  readonly netns: string;
  readonly stateDir?: string;
  readonly config?: unknown;
}

export async function addNetns(name: string): Promise<void> {
  await run(['ip', 'netns', 'add', name]);
  await run(['ip', '-n', name, 'link', 'set', 'lo', 'up']);
}

/** Resolves when the agent answers; `readyMs` is the time from its start until then. */
export async function startAgent({ netns, stateDir = stateDirectory(netns), config = {} }: AgentOptions): Promise<BenchAgent & { readonly readyMs: number }> {
  await mkdir(stateDir, { recursive: true });
  const socketPath = `/run/bench-${netns}/agent.sock`;
  await mkdir(`/run/bench-${netns}`, { recursive: true });
  const configFile = `/run/bench-${netns}/config.yaml`;
  await writeFile(configFile, stringify(config));
  const beganMs = performance.now();
  const options = ['--state-dir', stateDir, '--socket', socketPath, '--node', 'bench', '--config', configFile];
  // Unlike nsenter it mounts the namespace's own /sys, in which the agent looks for its interfaces.
  const child = start(['ip', 'netns', 'exec', netns, process.execPath, launcher, 'up', ...options], { stdio: ['ignore', 'ignore', 'inherit'] });
  const ended = once(child, 'exit');
  const connection = new HttpAgent({ keepAlive: true, maxSockets: 64 });
  const { pid } = await untilHealthy({ connection, socketPath }, () => child.exitCode !== null);
  const readyMs = performance.now() - beganMs;
  return {
    pid,
    readyMs,
    invoke: async (answer, command, params = {}) => answer.parse(await exchange({ connection, socketPath }, { path: '/v1/invoke', body: JSON.stringify({ command, params }) })),
    stop: async () => {
      process.kill(pid, 'SIGTERM');
      await ended;
      connection.destroy();
    },
  };
}

/** What an agent that shall run workloads needs in its configuration. */
export const RUNS_PROCESSES = { workloads: { process: { enabled: true, uid: 65_534 } } };

export interface BenchWorkload {
  readonly ip: string;
  /** The agent's mounts are its own, so the namespace is found through its process. */
  readonly netnsFile: string;
}

export async function runWorkload(agent: BenchAgent, name: string, command: readonly string[]): Promise<BenchWorkload> {
  const ran = z.looseObject({ id: z.string(), meshIp: z.string(), state: z.literal('running'), enforced: z.literal(true) });
  const { id, meshIp } = await agent.invoke(ran, 'workload.run', { name, command });
  return { ip: meshIp, netnsFile: `/proc/${agent.pid}/root/run/netns/claw-${id}` };
}

const enforced = z.looseObject({ enforced: z.literal(true) });
const created = z.looseObject({ enforced: z.literal(true), clusterIp: z.string() });

/** Creates services `from` to `to` - 1, many at once, and gives their virtual IPs by number. */
export async function fill(agent: BenchAgent, from: number, to: number): Promise<Map<number, string>> {
  const vips = new Map<number, string>();
  for (let first = from; first < to; first += AT_ONCE) {
    const numbers = Array.from({ length: Math.min(AT_ONCE, to - first) }, (_, index) => first + index);
    await Promise.all(numbers.map(async (number) => vips.set(number, await createService(agent, number))));
  }
  return vips;
}

const AT_ONCE = 64;

/** A service with two endpoints, once it is enforced. */
export async function createService(agent: BenchAgent, number: number): Promise<string> {
  return (await agent.invoke(created, 'service.create', { name: nameOf(number), port: 80, endpoints: endpointsOf(number) })).clusterIp;
}

export async function deleteService(agent: BenchAgent, number: number): Promise<void> {
  await agent.invoke(enforced, 'service.delete', { name: nameOf(number) });
}

export const nameOf = (number: number): string => `s${number}`;

/** Two addresses of no one, different for every service up to 32,768. */
export function endpointsOf(number: number): { ip: string; port: number }[] {
  return [2 * number, 2 * number + 1].map((host) => ({ ip: `10.50.${host >> 8}.${host & 255}`, port: 8080 }));
}

/** In megabytes of 10^6 bytes; the kernel's kB has 1,024. */
export async function residentMemory(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return (Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024) / 1e6;
}

/** User and system time of the process so far; the kernel counts them in hundredths of a second. */
export async function cpuMs(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  // Field 2 may hold blanks and parentheses; user and system time are fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

interface Door {
  readonly connection: HttpAgent;
  readonly socketPath: string;
}

async function untilHealthy(door: Door, hasEnded: () => boolean): Promise<{ pid: number }> {
  for (const deadline = performance.now() + START_TIMEOUT_MS; performance.now() < deadline && !hasEnded(); await delay(2)) {
    try {
      return z.looseObject({ pid: z.int() }).parse(await exchange(door, { path: '/v1/health' }));
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ECONNREFUSED'))) throw error;
    }
  }
  throw new Error('the agent did not become ready');
}

function exchange({ connection, socketPath }: Door, { path, body }: { path: string; body?: string }): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<unknown>();
  const headers = { 'content-type': 'application/json' };
  const outgoing = request({ agent: connection, socketPath, path, method: body === undefined ? 'GET' : 'POST', headers }, (response) => {
    let text = '';
    response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    response.on('error', reject);
    response.on('end', () => (response.statusCode === 200 ? resolve(JSON.parse(text)) : reject(restoreError(text) ?? new Error(text))));
  });
  outgoing.on('error', reject);
  outgoing.end(body);
  return promise;
}
