/** `clawnode up`: this machine's agent in the foreground; it has no logic of the agent's. */
import { once } from 'node:events';
import { geteuid } from 'node:process';
import { ClawError } from '../../errors.ts';
import { agentSocketPath, connectAgent, DEFAULT_SOCKET_PATH } from '../agent-client.ts';
import { refuseInsideSandbox } from './inside-sandbox.ts';
import { DEFAULT_STATE_DIR } from './state-path.ts';
import { stoppedExitCode, stopSignal } from './stop-signal.ts';
import { parseArguments, UsageError, type Subcommand } from './usage.ts';

export const up: Subcommand = {
  help: `Usage: clawnode up [--mode host|model] [--config FILE] [--state-dir DIR] [--socket PATH] [--node NAME] [--verbose]

Runs this machine's agent in the foreground, as root. It programs this machine's kernel; to try things out without root and
without touching the machine, use \`clawnode sandbox\`. SIGTERM and Ctrl-C stop the agent and leave services, workloads and
ingress up for the next one; \`clawnode cleanup\` removes them.

  --mode host      program this machine (default)
  --mode model     only a model of a node, for rehearsal: any user, any system with unix sockets, on the socket that --socket or
                   CLAWNODE_SOCKET names; no kernel is programmed, no workload started, and its state ends with it
  --config FILE    the YAML configuration
  --state-dir DIR  where the agent keeps its state (${DEFAULT_STATE_DIR}); one agent per directory; not for a model
  --socket PATH    where the agent listens (CLAWNODE_SOCKET, else ${DEFAULT_SOCKET_PATH})
  --node NAME      this node's id (the host's name)
  --verbose        log every step to standard error, not only what went wrong

Exit code: 0 stopped on request, 1 could not start or failed.
`,
  run: async (argv) => {
    const { values } = parseArguments({
      args: argv,
      options: {
        mode: { type: 'string', default: 'host' },
        config: { type: 'string' },
        'state-dir': { type: 'string' },
        socket: { type: 'string', default: agentSocketPath() },
        node: { type: 'string' },
        verbose: { type: 'boolean', default: false },
      },
    });
    if (values.mode === 'model') return runModel(values);
    if (values.mode !== 'host') throw new UsageError(`--mode ${values.mode} is none of host, model; \`clawnode sandbox\` opens a sandbox`);
    if (geteuid?.() !== 0) {
      throw new ClawError('PERMISSION_DENIED', "only root can program this machine's kernel", {
        hint: 'Use `sudo clawnode up`, or `clawnode sandbox`, which needs no root and leaves the machine alone.',
      });
    }
    await refuseInsideSandbox('Use it: `clawnode status`. For the machine itself, run `sudo clawnode up` outside.');
    const stop = stopSignal();
    // Its help must not take the time that loading an agent takes.
    const [{ openAgent }, { pino }] = await Promise.all([import('../../agent.ts'), import('pino')]);
    try {
      const agent = await openAgent(
        {
          mode: 'host',
          stateDir: values['state-dir'] ?? DEFAULT_STATE_DIR,
          socketPath: values.socket,
          ...(values.node === undefined ? {} : { nodeId: values.node }),
          ...(values.config === undefined ? {} : { configFile: values.config }),
          logger: pino({ level: values.verbose ? 'debug' : 'warn' }, pino.destination({ dest: 2, sync: true })),
        },
        stop,
      );
      try {
        const { node, mode, version, pid } = await connectAgent(values.socket).health(stop);
        process.stderr.write(`clawnode ${version}: node ${node} is ready in ${mode} mode on ${values.socket}, pid ${pid}\n`);
        if (!stop.aborted) await once(stop, 'abort');
      } finally {
        await agent.close();
      }
      return 0;
    } catch (error) {
      if (stop.aborted) return stoppedExitCode(stop);
      throw error;
    }
  },
};

interface ModelArguments {
  readonly socket: string;
  readonly node?: string | undefined;
  readonly config?: string | undefined;
  readonly 'state-dir'?: string | undefined;
  readonly verbose: boolean;
}

async function runModel({ socket, node, config, verbose, ...rest }: ModelArguments): Promise<number> {
  if (rest['state-dir'] !== undefined) throw new UsageError('--state-dir is not for --mode model, whose state ends with it');
  if (socket === DEFAULT_SOCKET_PATH) throw new UsageError("--mode model needs --socket PATH or CLAWNODE_SOCKET: the usual socket is the machine's own agent's");
  const stop = stopSignal();
  const [{ serveModel }, { pino }] = await Promise.all([import('./up-model.ts'), import('pino')]);
  const logger = pino({ level: verbose ? 'debug' : 'warn' }, pino.destination({ dest: 2, sync: true }));
  await serveModel({ socketPath: socket, logger, ...(node === undefined ? {} : { nodeId: node }), ...(config === undefined ? {} : { configFile: config }) }, stop);
  return 0;
}
