/** `clawnode mcp`: reads its arguments, finds the agent to speak for, and serves MCP on stdio or on a loopback port. */
import { once } from 'node:events';
import { TOOLSET_CHOICES, TOOLSETS, type ToolsetChoice } from '../../../tools/define.ts';
import { toClawError } from '../../errors.ts';
import { refuseLaterToolset } from '../../not-built.ts';
import { version } from '../../version.ts';
import { DEFAULT_HTTP_PORT } from '../http-port.ts';
import { createMcpServer, type McpServerOptions } from '../mcp-server.ts';
import { serveMcp } from '../mcp.ts';
import { plainText } from '../outside-text.ts';
import type { ToolScope } from '../tool-scope.ts';
import { chooseAgent, MODES, say, type Mode } from './mcp-agent.ts';
import { stopSignal } from './stop-signal.ts';
import { parseArguments, UsageError, type Subcommand } from './usage.ts';

const MAX_SHOWN = 200;

export const mcp: Subcommand = {
  help: `Usage: clawnode mcp [--mode auto|host|sandbox|model] [--toolsets A,B] [--read-only] [--no-destructive]
                    [--config FILE] [--http [--port PORT] [--token-file FILE]]

Serves the agent's commands as MCP tools, with resources and prompts, on standard input and output, for Claude Desktop,
OpenClaw and other MCP hosts; with --http on a loopback port instead. In a sandbox the network is private; workloads read and
write files as the user who opened it. The model keeps state and works out addresses and endpoints, and enforces nothing.

  --mode auto      speak for the running agent (CLAWNODE_SOCKET, else the machine's own); without one, open a sandbox; where
                   there can be none, because this is no Linux or gives no user namespaces, the model (default)
  --mode host      speak for the machine's running agent, or fail; never starts one
  --mode sandbox   always open a fresh sandbox
  --mode model     always the model: programs no kernel, starts no workload, ends with this session
  --toolsets A,B   only the tools of these: all; default, which has those of the usual tasks and is what is served without this
                   option; or the groups ${TOOLSETS.join(', ')}. For example
                   default,policy
  --read-only      only tools that change nothing (=true and =false are understood as well, here and below)
  --no-destructive only tools that read or add: none that deletes, stops, detaches, or overwrites what is there, as each update
                   and network.apply do. A new policy still cuts off whom it isolates
  --config FILE    the YAML configuration of a sandbox's agent or of the model
  --http           Streamable HTTP on http://127.0.0.1:PORT/mcp until stopped, for clients of this machine that send
                   the token as \`Authorization: Bearer TOKEN\`
  --port PORT      its port (${DEFAULT_HTTP_PORT}); 0 for any free one
  --token-file F   the file, of mode 0600, that holds the token (~/.config/clawnode/mcp-token); a missing one is made with a
                   random token

Which agent it is, is said on standard error and to the client in the server's instructions. Exit code: 0 when the client has gone
or the server was stopped, 1 when there is no agent to speak for or the port is taken.
`,
  run: async (argv) => {
    const { mode, configFile, scope, http } = readArguments(argv);
    const stop = stopSignal();
    try {
      const chosen = await chooseAgent(mode, { configFile, scope, signal: stop });
      try {
        const { introduction, invoke, changes } = chosen;
        const server: McpServerOptions = { invoke, changes, version: version(), introduction, ...scope };
        await untilFailure(chosen.ready, stop, (signal) => (http === undefined ? serveMcp({ ...server, ready: chosen.ready, onError }, signal) : serveHttp(server, http, signal)));
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

/** What came in and is no message of the protocol, or what could not be sent. */
function onError(error: Error): void {
  say(`the connection met an error: ${plainText(error.message, MAX_SHOWN)}`);
}

/** Serves until the signal aborts, or until it turns out that there is no agent to serve, which it throws. */
async function untilFailure(ready: Promise<void> | undefined, stop: AbortSignal, serve: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const failed = new AbortController();
  ready?.catch(() => failed.abort());
  await serve(AbortSignal.any([stop, failed.signal]));
  if (failed.signal.aborted) await ready;
}

interface HttpArguments {
  readonly port: number;
  readonly tokenFile: string | undefined;
}

/** Serves until the signal aborts. */
async function serveHttp(server: McpServerOptions, { port, tokenFile }: HttpArguments, stop: AbortSignal): Promise<void> {
  const [{ defaultTokenFile, readOrMakeToken }, { listenOnLoopback, LOOPBACK }, { MCP_PATH, mcpRoute }] = await Promise.all([
    import('../bearer-token.ts'),
    import('../http.ts'),
    import('../mcp-http.ts'),
  ]);
  const file = tokenFile ?? defaultTokenFile();
  const token = await readOrMakeToken(file);
  const { changes, ...alone } = server;
  const listener = await listenOnLoopback({
    port,
    // A server for one request could tell of nothing that happens later.
    routes: [mcpRoute({ token, listening: changes === undefined ? undefined : { invoke: server.invoke, changes }, createServer: ({ lasting }, signal) => createMcpServer(lasting ? server : alone, { running: new Set(), signal }) }, stop)],
    onDefect: (error) => say(`a request met a defect: ${toClawError(error).message}`),
  });
  say(`serving http://${LOOPBACK}:${listener.port}${MCP_PATH}; its bearer token is in ${file}`);
  try {
    if (!stop.aborted) await once(stop, 'abort');
  } finally {
    await listener.close();
  }
}

interface Arguments {
  readonly mode: Mode;
  readonly configFile: string | undefined;
  /** Listed by the MCP side and enforced by the agent, call by call. */
  readonly scope: ToolScope;
  /** stdio when absent. */
  readonly http: HttpArguments | undefined;
}

function readArguments(argv: string[]): Arguments {
  const { values } = parseArguments({
    args: argv.flatMap(plainSwitch),
    options: {
      mode: { type: 'string', default: 'auto' },
      toolsets: { type: 'string', default: 'default' },
      'read-only': { type: 'boolean', default: false },
      'no-destructive': { type: 'boolean', default: false },
      config: { type: 'string' },
      http: { type: 'boolean', default: false },
      port: { type: 'string' },
      'token-file': { type: 'string' },
    },
  });
  const mode = MODES.find((known) => known === values.mode);
  if (mode === undefined) throw new UsageError(`--mode ${values.mode} is none of ${MODES.join(', ')}`);
  const { port, 'token-file': tokenFile } = values;
  if (!values.http && (port !== undefined || tokenFile !== undefined)) throw new UsageError('--port and --token-file belong to --http');
  return {
    mode,
    configFile: values.config,
    scope: { readOnly: values['read-only'], noDestructive: values['no-destructive'], toolsets: values.toolsets.split(',').map(toolset) },
    http: values.http ? { port: port === undefined ? DEFAULT_HTTP_PORT : portNumber(port), tokenFile } : undefined,
  };
}

/** Hosts that fill in settings can not leave a switch out, so `--read-only=false` is the same as nothing, and `=true` as the switch alone. */
function plainSwitch(argument: string): string[] {
  const [, name, value] = /^(--read-only|--no-destructive)=(true|false)$/.exec(argument) ?? [];
  return name === undefined ? [argument] : value === 'true' ? [name] : [];
}

function portNumber(text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port <= 65_535) return port;
  throw new UsageError(`--port ${text} is not a port from 0 to 65535`);
}

function toolset(text: string): ToolsetChoice {
  const name = text.trim();
  refuseLaterToolset(name);
  const found = TOOLSET_CHOICES.find((known) => known === name);
  if (found === undefined) throw new UsageError(`--toolsets: ${JSON.stringify(text)} is none of ${TOOLSET_CHOICES.join(', ')}`);
  return found;
}
