/** Finds the agent that `clawnode mcp` speaks for: a running one, a sandbox of its own, or the model. It never starts one on the machine itself. */
import { geteuid, platform } from 'node:process';
import { ClawError } from '../../errors.ts';
import { version } from '../../version.ts';
import { followChanges, type FollowChanges } from '../agent-changes.ts';
import { connectAgent, connectUsualAgent, RESTART_WAIT_MS, type AgentClient, type AgentHealth } from '../agent-client.ts';
import { plainText } from '../outside-text.ts';
import type { ToolScope } from '../tool-scope.ts';

export const MODES = ['auto', 'host', 'sandbox', 'model'] as const;
export type Mode = (typeof MODES)[number];

const HEALTH_TIMEOUT_MS = 5_000;

export interface ChosenAgent {
  readonly invoke: AgentClient['invoke'];
  readonly changes: FollowChanges;
  /** For the model at the other end: whether what it changes is a machine, a sandbox or nothing at all, and why. */
  readonly introduction: string;
  /** Rejects when the agent turns out not to start; absent where it runs already. Calls wait for it. */
  readonly ready?: Promise<void>;
  readonly close: () => Promise<void>;
}

export interface Choice {
  readonly configFile: string | undefined;
  readonly scope: ToolScope;
  readonly signal: AbortSignal;
}

/** Throws why there is no agent of this mode; in mode `auto` only what a user can put right, such as a missing program. */
export async function chooseAgent(mode: Mode, choice: Choice): Promise<ChosenAgent> {
  if (mode === 'model') return modelAgent(choice, 'asked for with --mode model');
  if (mode === 'host') return hostAgent(choice);
  if (mode === 'sandbox') return sandboxAgent(choice, 'asked for with --mode sandbox');
  return runningAgent(choice).catch(async (error: unknown) => {
    if (!(error instanceof ClawError) || choice.signal.aborted) throw error;
    return privateAgent(choice, `no agent of this machine could be used: ${error.message}`);
  });
}

/** Standard output belongs to the protocol. */
export function say(text: string): void {
  process.stderr.write(`clawnode mcp: ${text}\n`);
}

async function runningAgent({ scope, signal }: Choice): Promise<ChosenAgent> {
  const agent = connectUsualAgent({ surface: 'mcp', ...scope });
  const { node, mode } = await healthOf(agent, signal);
  const whose = mode === 'host' ? programs(node) : mode === 'model' ? MODEL : 'You speak for a private sandbox that somebody else has opened.';
  return attached(agent, { node, mode, whose });
}

/** Throws TIMEOUT for an agent that takes the connection and says nothing. */
async function healthOf(agent: AgentClient, signal: AbortSignal): Promise<AgentHealth> {
  const deadline = AbortSignal.timeout(HEALTH_TIMEOUT_MS);
  try {
    const health = await agent.health(AbortSignal.any([signal, deadline]));
    if (health.version !== version()) say(`the agent is of version ${plainText(health.version, 40)}, this program of ${version()}: limits that it does not know are not enforced by it`);
    return health;
  } catch (error) {
    if (!deadline.aborted || signal.aborted) throw error;
    throw new ClawError('TIMEOUT', `the agent on ${agent.socketPath} does not answer within ${HEALTH_TIMEOUT_MS} ms`, { hint: '`clawnode doctor` looks at what is wrong with it.', cause: error });
  }
}

async function hostAgent({ scope, signal }: Choice): Promise<ChosenAgent> {
  const agent = connectUsualAgent({ surface: 'mcp', ...scope });
  const { node, mode } = await healthOf(agent, signal);
  if (mode !== 'host') {
    throw new ClawError('AGENT_UNREACHABLE', `the agent on ${agent.socketPath} runs in ${mode} mode, not in host mode`, {
      hint: "Start the machine's own with `sudo clawnode up`, or leave --mode out.",
    });
  }
  return attached(agent, { node, mode, whose: programs(node) });
}

async function privateAgent(choice: Choice, why: string): Promise<ChosenAgent> {
  if (platform !== 'linux') return modelAgent(choice, `${why}; this is no Linux (${platform}), so there can be no sandbox`);
  try {
    return await sandboxAgent(choice, why);
  } catch (error) {
    if (!(error instanceof ClawError) || error.code !== 'SANDBOX_UNAVAILABLE') throw error;
    return modelAgent(choice, `${why}; no sandbox: ${error.message}`);
  }
}

async function sandboxAgent({ configFile, scope, signal }: Choice, why: string): Promise<ChosenAgent> {
  // Loaded here, since none of it is of use where there is no Linux.
  const { startSandbox } = await import('../../sandbox/sandbox.ts');
  const sandbox = await startSandbox(configFile === undefined ? {} : { configFile }, signal);
  // Its agent is there as long as the sandbox is, so one that does not listen is being restarted.
  const { invoke } = connectAgent(sandbox.socketPath, { surface: 'mcp', ...scope, restartWaitMs: RESTART_WAIT_MS });
  say(`speaking for a sandbox of its own (${why}); its ingress is on ${sandbox.ingressUrl}`);
  return {
    // What the tools are can be told before anything of them works: hosts wait for the list, and start many servers at once.
    invoke: async (command, params, until) => {
      await whenReady(sandbox.ready, until);
      return invoke(command, params, until);
    },
    ready: sandbox.ready,
    changes: async function* (until) {
      await whenReady(sandbox.ready, until);
      yield* followChanges(sandbox.socketPath, until);
    },
    introduction: `You speak for a private sandbox (${why}); its ingress is ${sandbox.ingressUrl}. It ends with this server.`,
    close: sandbox.close,
  };
}

/** Throws why it never will be, or CANCELLED when the caller no longer waits. */
async function whenReady(ready: Promise<void>, until: AbortSignal): Promise<void> {
  const left = Promise.withResolvers<never>();
  const leave = (): void => left.reject(new ClawError('CANCELLED', 'the call was cancelled before the sandbox was ready'));
  until.addEventListener('abort', leave, { once: true });
  if (until.aborted) leave();
  try {
    await Promise.race([ready, left.promise]);
  } finally {
    until.removeEventListener('abort', leave);
  }
}

const MODEL = 'You speak for a model: it keeps state, addresses and endpoints, but programs no kernel and starts no workload, so nothing is enforced.';

async function modelAgent({ configFile, scope: limits, signal }: Choice, why: string): Promise<ChosenAgent> {
  const [{ openModelAgent }, { pino }] = await Promise.all([import('../../model-agent.ts'), import('pino')]);
  signal.throwIfAborted();
  const logger = pino({ level: 'warn' }, pino.destination({ dest: 2, sync: true }));
  const agent = await openModelAgent({ logger, ...(configFile === undefined ? {} : { configFile }) });
  const caller = { surface: 'mcp', peer: Promise.resolve('this process') };
  say(`speaking for a model (${why}); nothing is enforced`);
  return {
    invoke: (command, params, until) => agent.invoke({ command, params, limits, caller }, until),
    changes: (until) => agent.changes(until),
    introduction: `${MODEL} Why: ${why}. It ends with this server.`,
    close: async () => agent.close(),
  };
}

/** An agent that somebody else started goes on when we end. */
function attached(agent: AgentClient, { node, mode, whose }: { node: string; mode: string; whose: string }): ChosenAgent {
  say(`speaking for node ${node} (${mode} mode) on ${agent.socketPath}`);
  if (mode === 'host' && geteuid?.() === 0) say("this runs as root, which it does not need: members of the agent's group may do the same");
  return {
    invoke: agent.invoke,
    changes: (until) => followChanges(agent.socketPath, until),
    introduction: `${whose} Its agent answers on ${agent.socketPath}.`,
    close: async () => undefined,
  };
}

function programs(node: string): string {
  return `You program node ${node}.`;
}
