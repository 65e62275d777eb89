/** `clawnode mcp`: finds the agent that an MCP server on stdio speaks for. It never starts one on the machine itself. */
import { TOOLSETS, type Toolset } from '../../../tools/define.ts';
import { ClawError } from '../../errors.ts';
import { openSandbox } from '../../sandbox/sandbox.ts';
import { connectAgent, connectUsualAgent, RESTART_WAIT_MS, type AgentClient } from '../agent-client.ts';
import { serveMcp } from '../mcp.ts';
import type { ToolScope } from '../tool-scope.ts';
import { stopSignal } from './stop-signal.ts';
import { parseArguments, UsageError, type Subcommand } from './usage.ts';
import { version } from '../../version.ts';

const MODES = ['auto', 'host', 'sandbox', 'model'] as const;
type Mode = (typeof MODES)[number];

const HEALTH_TIMEOUT_MS = 5_000;

export const mcp: Subcommand = {
  help: `Usage: clawnode mcp [--mode auto|host|sandbox] [--read-only] [--toolsets A,B] [--config FILE]

Serves the agent's commands as MCP tools on standard input and output, for Claude Desktop, OpenClaw and other MCP hosts.
In a sandbox the network is private; workloads read and write files as the user who opened it.

  --mode auto      speak for the running agent (CLAWNODE_SOCKET, else the machine's own); without one, open a sandbox (default)
  --mode host      speak for the machine's running agent, or fail; never starts one
  --mode sandbox   always open a fresh sandbox
  --read-only      only tools that change nothing
  --toolsets A,B   only these of ${TOOLSETS.join(', ')}
  --config FILE    the YAML configuration of a sandbox's agent

Which agent it is, is said on standard error and to the client in the server's instructions. Exit code: 0 when the client has gone, 1 when there is no agent to speak for.
`,
  run: async (argv) => {
    const { mode, configFile, scope } = readArguments(argv);
    const stop = stopSignal();
    try {
      const chosen = await chooseAgent(mode, { configFile, scope, signal: stop });
      try {
        const { introduction, agent } = chosen;
        await serveMcp({ invoke: agent.invoke, version: version(), introduction, ...scope }, stop);
      } finally {
        await chosen.close();
      }
    } catch (error) {
      // Hosts end a server with a signal: that is no failure, at whatever moment it comes.
      if (!stop.aborted) throw error;
    }
    return 0;
  },
};

interface Arguments {
  readonly mode: Mode;
  readonly configFile: string | undefined;
  /** Listed by the MCP side and enforced by the agent, call by call. */
  readonly scope: ToolScope;
}

function readArguments(argv: string[]): Arguments {
  const { values } = parseArguments({
    args: argv,
    options: {
      mode: { type: 'string', default: 'auto' },
      'read-only': { type: 'boolean', default: false },
      toolsets: { type: 'string' },
      config: { type: 'string' },
    },
  });
  const mode = MODES.find((known) => known === values.mode);
  if (mode === undefined) throw new UsageError(`--mode ${values.mode} is none of ${MODES.join(', ')}`);
  const toolsets = values.toolsets?.split(',').map(toolset);
  return { mode, configFile: values.config, scope: { readOnly: values['read-only'], ...(toolsets === undefined ? {} : { toolsets }) } };
}

function toolset(text: string): Toolset {
  const found = TOOLSETS.find((known) => known === text.trim());
  if (found === undefined) throw new UsageError(`--toolsets: ${JSON.stringify(text)} is none of ${TOOLSETS.join(', ')}`);
  return found;
}

interface ChosenAgent {
  readonly agent: AgentClient;
  /** For the model at the other end: whether what it changes is a machine or a sandbox. */
  readonly introduction: string;
  readonly close: () => Promise<void>;
}

interface Choice {
  readonly configFile: string | undefined;
  readonly scope: ToolScope;
  readonly signal: AbortSignal;
}

interface SandboxChoice extends Choice {
  readonly whyNotTheMachine?: string;
}

async function chooseAgent(mode: Mode, choice: Choice): Promise<ChosenAgent> {
  if (mode === 'model') throw new ClawError('NOT_SUPPORTED', 'the model mode is not built yet', { hint: 'Use --mode sandbox, which needs no root.' });
  if (mode === 'host') return hostAgent(choice);
  if (mode === 'sandbox') return sandboxAgent(choice);
  try {
    return await runningAgent(choice);
  } catch (error) {
    if (!(error instanceof ClawError) || choice.signal.aborted) throw error;
    say(`${error.message}; opening a sandbox instead`);
    return sandboxAgent({ ...choice, whyNotTheMachine: error.message });
  }
}

async function runningAgent({ scope, signal }: Choice): Promise<ChosenAgent> {
  const agent = connectUsualAgent({ surface: 'mcp', ...scope });
  const { node, mode } = await agent.health(AbortSignal.any([signal, AbortSignal.timeout(HEALTH_TIMEOUT_MS)]));
  say(`speaking for node ${node} (${mode} mode) on ${agent.socketPath}`);
  return attached(agent, mode === 'host' ? programs(node) : 'You speak for a private sandbox that somebody else has opened.');
}

async function hostAgent({ scope, signal }: Choice): Promise<ChosenAgent> {
  const agent = connectUsualAgent({ surface: 'mcp', ...scope });
  const { node, mode } = await agent.health(signal);
  if (mode !== 'host') {
    throw new ClawError('AGENT_UNREACHABLE', `the agent on ${agent.socketPath} runs in ${mode} mode, not in host mode`, {
      hint: "Start the machine's own with `sudo clawnode up`, or leave --mode out.",
    });
  }
  say(`speaking for node ${node} (host mode) on ${agent.socketPath}`);
  return attached(agent, programs(node));
}

async function sandboxAgent({ configFile, scope, signal, whyNotTheMachine }: SandboxChoice): Promise<ChosenAgent> {
  const sandbox = await openSandbox(configFile === undefined ? {} : { configFile }, signal);
  say(`speaking for a sandbox of its own; its ingress is on ${sandbox.ingressUrl}`);
  const why = whyNotTheMachine === undefined ? '' : ` (no agent of this machine could be used: ${whyNotTheMachine})`;
  return {
    agent: connectAgent(sandbox.socketPath, { surface: 'mcp', restartWaitMs: RESTART_WAIT_MS, ...scope }),
    introduction: `You speak for a private sandbox${why}; its ingress is ${sandbox.ingressUrl}. It ends with this session.`,
    close: sandbox.close,
  };
}

/** An agent that somebody else started goes on when we end. */
function attached(agent: AgentClient, introduction: string): ChosenAgent {
  return { agent, introduction, close: async () => undefined };
}

function programs(node: string): string {
  return `You program node ${node}.`;
}

/** Standard output belongs to the protocol. */
function say(text: string): void {
  process.stderr.write(`clawnode mcp: ${text}\n`);
}
