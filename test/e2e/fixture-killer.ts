/** Kills the agent, its restore process and the proxy with SIGKILL at random moments and measures how long each takes to be back. */
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { ClawError } from '../../src/errors.ts';
import { connectAgent } from '../../src/surfaces/agent-client.ts';
import { isAgent, isHolder, isProxy, isRestore, killAll, killForGood, listProcesses, PROXY_KILLS } from './fixture-processes.ts';
import { randomFrom } from './fixture-random.ts';
import { sampleOf, type Target } from './fixture-requests.ts';

export interface KillPlan {
  readonly kills: number;
  readonly restoreKills: number;
  readonly proxyKills: number;
  readonly seed: number;
  readonly socketPath: string;
  /** Answers again when the proxy is back. */
  readonly ingress: Target;
}

export interface Killed {
  readonly kills: { agent: number; whileStarting: number; restore: number; proxy: number };
  /** From a kill of the agent to the next one's first answer, for each kill after which one became ready. */
  readonly readyMs: number[];
  readonly proxyKills: ProxyKilled[];
  /** From a kill of the restore process to the answer of a change that another one has enforced. */
  readonly restoreRepairMs: number[];
}

export interface ProxyKilled {
  readonly what: string;
  /** Just before the kill. */
  readonly fromMs: number;
  /** From then on none of what was to die lives. */
  readonly deadMs: number;
  /** Both workers and the holder run again, and the ingress has answered. */
  readonly toMs: number;
}

/** The longest pause between ready and the next kill, and the longest life of an agent that is killed while it starts. */
const MOST_PAUSE_MS = 400;
const MOST_START_MS = 500;
const BACK_TIMEOUT_MS = 20_000;

/** Every third agent is killed before it was ready, at any moment of its start. */
export async function killAtRandom(plan: KillPlan): Promise<Killed> {
  const random = randomFrom(plan.seed);
  const killed: Killed = { kills: { agent: 0, whileStarting: 0, restore: 0, proxy: 0 }, readyMs: [], proxyKills: [], restoreRepairMs: [] };
  const others = [...Array<'restore'>(plan.restoreKills).fill('restore'), ...Array<'proxy'>(plan.proxyKills).fill('proxy')];
  while (killed.kills.agent < plan.kills || others.length > 0) {
    await delay(random.below(MOST_PAUSE_MS));
    // The others are spread over the run: one before about every fourth kill of the agent.
    const agentsLeft = plan.kills - killed.kills.agent;
    if (others.length > 0 && (agentsLeft <= 0 || random.below(agentsLeft) < others.length)) {
      const [which] = others.splice(random.below(others.length), 1);
      if (which === 'restore') await killRestore(plan.socketPath, killed);
      if (which === 'proxy') killed.proxyKills.push(await killProxy(plan.ingress, killed));
      await delay(random.below(MOST_PAUSE_MS));
    }
    if (agentsLeft <= 0) continue;
    let fromMs = performance.now();
    let pids = await killAgent(killed);
    if (random.below(3) === 0 && killed.kills.agent < plan.kills) {
      await delay(50 + random.below(MOST_START_MS));
      fromMs = performance.now();
      pids = await killAgent(killed);
      killed.kills.whileStarting += pids.length;
    }
    await readyAgain(plan.socketPath, pids);
    killed.readyMs.push(performance.now() - fromMs);
  }
  return killed;
}

/** Waits until an agent answers that is none of these. Throws when none does in time. */
export async function readyAgain(socketPath: string, than: readonly number[]): Promise<number> {
  const agent = connectAgent(socketPath);
  const deadline = AbortSignal.timeout(BACK_TIMEOUT_MS);
  while (!deadline.aborted) {
    try {
      const { pid } = await agent.health(deadline);
      if (!than.includes(pid)) return pid;
    } catch (error) {
      if (!(error instanceof ClawError && (error.code === 'AGENT_UNREACHABLE' || error.code === 'CANCELLED'))) throw error;
    }
    await delay(5);
  }
  throw new Error(`no agent was ready ${BACK_TIMEOUT_MS} ms after the last had been killed`);
}

async function killAgent(killed: Killed): Promise<number[]> {
  const pids = await killAll(isAgent, 'SIGKILL');
  killed.kills.agent += pids.length;
  return pids;
}

/** A change before the kill sees to it that there is one, for an agent that has changed nothing yet has none. */
async function killRestore(socketPath: string, killed: Killed): Promise<void> {
  const agent = connectAgent(socketPath);
  const name = `repair-${killed.kills.restore}`;
  const change = async (command: string, params: object): Promise<void> => {
    z.looseObject({ enforced: z.literal(true) }).parse(await agent.invoke(command, { name, ...params }, AbortSignal.timeout(BACK_TIMEOUT_MS)));
  };
  await change('service.create', { port: 80, endpoints: [{ ip: '192.0.2.1' }] });
  const fromMs = performance.now();
  killed.kills.restore += (await killAll(isRestore, 'SIGKILL')).length;
  await change('service.delete', {});
  killed.restoreRepairMs.push(performance.now() - fromMs);
}

/** One way of killing it after the other, so that all have their turn. */
async function killProxy(ingress: Target, killed: Killed): Promise<ProxyKilled> {
  const { what, victims } = PROXY_KILLS[killed.kills.proxy % PROXY_KILLS.length] ?? { what: 'both workers', victims: (all) => all.filter(isProxy) };
  const fromMs = performance.now();
  const { deadMs } = await killForGood(victims);
  killed.kills.proxy += 1;
  for (;;) {
    const sample = await sampleOf(ingress);
    const all = await listProcesses();
    if (sample.who !== undefined && all.filter(isProxy).length === 2 && all.filter(isHolder).length === 1) return { what, fromMs, deadMs, toMs: performance.now() };
    if (performance.now() - fromMs > BACK_TIMEOUT_MS) throw new Error(`the ingress was not whole ${BACK_TIMEOUT_MS} ms after ${what} had been killed: ${sample.failure ?? ''}`);
    await delay(10);
  }
}
