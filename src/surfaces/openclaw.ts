/** The OpenClaw surface: shows the registry as tools and as commands of a node, each handed to the agent. It holds no state and starts nothing. */
import type { Tool } from '../../tools/define.ts';
import { tools } from '../../tools/index.ts';
import { parseInput } from '../arguments.ts';
import { ClawError, toClawError, type ErrorShape } from '../errors.ts';
import { withoutLaterArguments } from '../not-built.ts';
import { connectUsualAgent } from './agent-client.ts';
import type { NodeHostCommand, OpenClawPlugin, OpenClawPluginApi, OpenClawTool } from './openclaw-api.ts';
import { plainAnswer, plainError } from './plain-answer.ts';
import { renderAnswer } from './render.ts';
import { inputSchema } from './tool-schema.ts';

const plugin: OpenClawPlugin = {
  id: 'clawbernetes-networking',
  name: 'Clawbernetes networking',
  description: 'Services with stable virtual IPs, HTTP ingress and an IP per workload on this Linux node, through its clawnode agent.',
  register,
};

// oxlint-disable-next-line import/no-default-export -- The host takes the plugin from the default export.
export default plugin;

type Invoke = (command: string, params: unknown, signal?: AbortSignal) => Promise<unknown>;

function register(api: OpenClawPluginApi): void {
  const invoke = invokeThrough(api);
  for (const tool of tools) {
    api.registerTool(agentTool(tool, invoke));
    api.registerNodeHostCommand(nodeCommand(tool, invoke));
  }
  // The agent on the node decides what is allowed; the gateway only passes it on.
  api.registerNodeInvokePolicy({
    commands: tools.map(({ command }) => command),
    defaultPlatforms: ['linux'],
    handle: (context) => context.invokeNode(),
  });
}

/** The socket is looked up at each call, so that an agent may come, go and move while the host runs. */
function invokeThrough({ pluginConfig }: OpenClawPluginApi): Invoke {
  return (command, params, signal = new AbortController().signal) => {
    const wished = pluginConfig?.['socket'];
    const named = typeof wished === 'string' && wished !== '' ? { socketPath: wished } : {};
    return connectUsualAgent({ ...named, surface: 'openclaw' }).invoke(command, params, signal);
  };
}

function agentTool(tool: Tool, invoke: Invoke): OpenClawTool {
  const { command } = tool;
  return {
    name: tool.toolName,
    label: tool.title,
    description: tool.description,
    parameters: inputSchema(tool),
    prepareArguments: (params) => {
      try {
        const given = withoutLaterArguments(tool, params) ?? {};
        parseInput(tool, given);
        return given;
      } catch (thrown) {
        // The host shows the model this text alone; the text of its own check has no code, path or hint.
        throw new Error(JSON.stringify(plainError(toClawError(thrown))), { cause: thrown });
      }
    },
    execute: async (_toolCallId, params, signal) => {
      try {
        // An answer's own `success` or `reason` must not be taken for a grade of the call, hence the wrapping.
        const answer = plainAnswer(command, await invoke(command, params, signal));
        return { content: [{ type: 'text', text: renderAnswer(command, answer) }], details: { answer } };
      } catch (thrown) {
        const error = plainError(toClawError(thrown));
        return { content: [{ type: 'text', text: JSON.stringify(error) }], details: { ok: false, error } };
      }
    },
  };
}

function nodeCommand({ command }: Tool, invoke: Invoke): NodeHostCommand {
  return {
    command,
    cap: 'network',
    // What a command starts is held by the agent, never by this process.
    hasActiveWork: () => false,
    handle: async (paramsJSON, _io, context) => {
      try {
        return JSON.stringify(plainAnswer(command, await invoke(command, parseParams(paramsJSON), context?.signal)));
      } catch (thrown) {
        // A thrown error would reach the caller as bare text without code and hint.
        return JSON.stringify({ error: plainError(toClawError(thrown)) } satisfies { error: ErrorShape });
      }
    },
  };
}

function parseParams(paramsJSON: string | null | undefined): unknown {
  if (paramsJSON === undefined || paramsJSON === null || paramsJSON === '') return {};
  try {
    return JSON.parse(paramsJSON) ?? {};
  } catch (error) {
    throw new ClawError('INVALID_ARGUMENT', 'the parameters are not JSON', { hint: 'Send one JSON object, e.g. {"name": "web"}.', cause: error });
  }
}
