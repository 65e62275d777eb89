/** `clawnode sandbox`: a program and an agent in a fresh sandbox; signals and exit code are the program's. */
import { parseArgs } from 'node:util';
import { openSandbox, signalEntered, type Child, type Sandbox } from '../../sandbox/sandbox.ts';
import { notStarted, type Argv } from '../../drivers/exec.ts';
import { exitCodeOf, stoppedExitCode, stopSignal } from './stop-signal.ts';
import { parseArguments, UsageError, type Subcommand } from './usage.ts';

const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const;
const USUAL_INGRESS_PORT = 8443;

export const sandbox: Subcommand = {
  help: `Usage: clawnode sandbox [--config FILE] [--ingress-port PORT] [--verbose] [-- CMD [ARGUMENTS]]

Starts an agent in user, network, mount and pid namespaces of its own, and CMD (default: your shell) inside them. Needs no
root and never touches the machine's own firewall. CLAWNODE_SOCKET is set for CMD, \`clawnode\` is on its PATH, and CMD sees the
sandbox's network. In a sandbox the network is private; workloads read and write files as the user who opened it.
The ingress is published on 127.0.0.1:8443 outside, or the next free port. When CMD ends, everything inside ends with it.

  --config FILE        the agent's YAML configuration
  --ingress-port PORT  the first port to try for the ingress
  --verbose            say where the ingress and the agent's log are

Exit code: CMD's own (128 + n when signal n ended it, 127 when it was not found), 1 when there is no sandbox.
`,
  run: async (argv) => {
    const { options, command, verbose } = readArguments(argv);
    const stop = stopSignal();
    let opened: Sandbox;
    try {
      opened = await openSandbox(options, stop);
    } catch (error) {
      if (stop.aborted) return stoppedExitCode(stop);
      throw error;
    }
    try {
      if (stop.aborted) return stoppedExitCode(stop);
      announce(opened, { shell: command === undefined, verbose });
      return await runInside(opened, command);
    } finally {
      await opened.close();
    }
  },
};

const OPTIONS = { config: { type: 'string' }, 'ingress-port': { type: 'string' }, verbose: { type: 'boolean', default: false } } as const;

interface Arguments {
  readonly options: { readonly configFile?: string; readonly ingressPort?: number };
  readonly command: Argv | undefined;
  readonly verbose: boolean;
}

function readArguments(argv: string[]): Arguments {
  const end = argv.indexOf('--');
  const args = end === -1 ? argv : argv.slice(0, end);
  // A CMD without -- is looked for first: its own options would be the first thing to be complained about.
  const [stray] = parseArgs({ args, options: OPTIONS, allowPositionals: true, strict: false }).positionals;
  if (stray !== undefined) throw new UsageError(`put the command behind --, as in \`clawnode sandbox -- ${argv.slice(argv.indexOf(stray)).filter((part) => part !== '--').join(' ')}\``);
  const { values } = parseArguments({ args, options: OPTIONS });
  const [program, ...rest] = end === -1 ? [] : argv.slice(end + 1);
  if (end !== -1 && program === undefined) throw new UsageError('the command behind -- is missing');
  const port = values['ingress-port'];
  return {
    options: {
      ...(values.config === undefined ? {} : { configFile: values.config }),
      ...(port === undefined ? {} : { ingressPort: portNumber(port) }),
    },
    command: program === undefined ? undefined : [program, ...rest],
    verbose: values.verbose,
  };
}

function portNumber(text: string): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new UsageError(`--ingress-port ${text} is not a port from 1 to 65535`);
  return port;
}

/** A script's output stays its own; only what nobody could guess is said in between. */
function announce({ ingressUrl, agentLog }: Sandbox, { shell, verbose }: { shell: boolean; verbose: boolean }): void {
  const unusualPort = !ingressUrl.endsWith(`:${USUAL_INGRESS_PORT}`);
  if (shell || verbose || unusualPort) say(`the sandbox's ingress is on ${ingressUrl}`);
  if (shell || verbose) say(`its agent's log is ${agentLog}`);
  if (shell) say('this shell is inside; `exit` ends it and everything else inside');
}

function say(text: string): void {
  process.stderr.write(`clawnode: ${text}\n`);
}

/** A shell shows where it is: PS1 where the user's own start-up file sets none, and Debian's default prompt shows the other. */
const PROMPT = { PS1: '(clawnode) # ', debian_chroot: 'clawnode' } as const;

/** Runs the command, or a shell without one. */
async function runInside(opened: Sandbox, command: Argv | undefined): Promise<number> {
  const argv: Argv = command ?? [process.env['SHELL'] ?? '/bin/sh'];
  const child = opened.enter(argv, 'inherit', command === undefined ? PROMPT : {});
  const stopForwarding = forwardSignals(child);
  try {
    return await exitCode(child, argv);
  } finally {
    stopForwarding();
  }
}

function forwardSignals(child: Child): () => void {
  const forward = (signal: NodeJS.Signals): void => {
    // A terminal's Ctrl-C and Ctrl-\ have reached the program already: it shares our foreground process group.
    const fromTerminal = process.stdin.isTTY && (signal === 'SIGINT' || signal === 'SIGQUIT');
    if (!fromTerminal) void signalEntered(child, signal);
  };
  for (const signal of FORWARDED) process.on(signal, forward);
  return () => {
    for (const signal of FORWARDED) process.off(signal, forward);
  };
}

function exitCode(child: Child, command: Argv): Promise<number> {
  return new Promise((resolve, reject) => {
    child.on('error', (error) => reject(notStarted(command, error)));
    child.on('exit', (code, signal) => resolve(code ?? (signal === null ? 1 : exitCodeOf(signal))));
  });
}
