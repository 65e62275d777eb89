/** The command line's entry: picks the subcommand, loads only that one, turns errors into exit codes. */
import process from 'node:process';
import { systemSearchPath } from '../../sandbox/search-path.ts';
import { errorText, UsageError, type Subcommand } from './usage.ts';

interface Entry {
  readonly summary: string;
  /** It has things to close when the reader of its output goes away, so it sees to that itself. */
  readonly watchesOutput?: true;
  readonly load: () => Promise<Subcommand>;
}

/** Loaded on demand: a command that is run by the hundred in a script must not pay for the others. */
const SUBCOMMANDS: Readonly<Record<string, Entry>> = {
  up: { summary: "run this machine's agent in the foreground (root)", load: async () => (await import('./up.ts')).up },
  mcp: { summary: 'serve the commands as MCP tools on stdio or HTTP', watchesOutput: true, load: async () => (await import('./mcp.ts')).mcp },
  invoke: { summary: 'run one command of the agent, JSON in and out', load: async () => (await import('./invoke.ts')).invoke },
  sandbox: { summary: 'run a shell or a program beside an agent in a fresh sandbox', load: async () => (await import('./sandbox.ts')).sandbox },
  status: { summary: 'show what the agent runs', load: async () => (await import('./status.ts')).status },
  simulate: { summary: 'tell who could reach whom under policies in a file', load: async () => (await import('./simulate.ts')).simulate },
  doctor: { summary: 'check what is missing or wrong, and say what to do', load: async () => (await import('./doctor.ts')).doctor },
  'install-service': { summary: "make this machine's agent a service of systemd (root)", load: async () => (await import('./install-service.ts')).installService },
  'uninstall-service': { summary: 'remove that service again (root)', load: async () => (await import('./uninstall-service.ts')).uninstallService },
  demo: { summary: 'see a service balance real connections, in a sandbox', watchesOutput: true, load: loadDemo },
  cleanup: { summary: 'remove every kernel object of the agent (root)', load: async () => (await import('./cleanup.ts')).cleanup },
};

/** Runs the command line and gives its exit code: 0 done, 1 failed, 2 wrong usage; `sandbox` gives its command's. */
export async function main(argv: string[]): Promise<number> {
  process.env['PATH'] = systemSearchPath(process.env['PATH']);
  const [name, ...rest] = argv[0] === 'help' && argv.length > 1 ? [...argv.slice(1), '--help'] : argv;
  const entry = name === undefined || !Object.hasOwn(SUBCOMMANDS, name) ? undefined : SUBCOMMANDS[name];
  if (entry?.watchesOutput !== true || wantsHelp(rest)) endWithReader();
  if (name === '--version') return print(`${(await import('../../version.ts')).version()}\n`);
  if (name === '--help' || name === '-h' || name === 'help') return print(helpText());
  if (name === undefined || entry === undefined) {
    process.stderr.write(name === undefined ? helpText() : `clawnode: there is no subcommand ${JSON.stringify(name)}; try \`clawnode --help\`\n`);
    return 2;
  }
  const subcommand = await entry.load();
  return runSubcommand(name, subcommand, rest);
}

/** A reader that has seen enough, as in `clawnode status | head -1`, is no error. */
function endWithReader(): void {
  process.stdout.on('error', (error) => {
    if ('code' in error && error.code === 'EPIPE') process.exit(0);
    throw error;
  });
}

async function runSubcommand(name: string, subcommand: Subcommand, argv: string[]): Promise<number> {
  try {
    if (wantsHelp(argv)) return print((await subcommand.detailedHelp?.(argv)) ?? subcommand.help);
    return await subcommand.run(argv);
  } catch (error) {
    if (error instanceof UsageError) {
      process.stderr.write(`clawnode ${name}: ${error.message}; try \`clawnode ${name} --help\`\n`);
      return 2;
    }
    const { withRemedy } = await import('./doctor.ts');
    process.stderr.write(errorText(await withRemedy(error), { verbose: argv.includes('--verbose') }));
    return 1;
  }
}

/** What stands behind `--` belongs to another program. */
function wantsHelp(argv: string[]): boolean {
  const end = argv.indexOf('--');
  const own = end === -1 ? argv : argv.slice(0, end);
  return own.includes('--help') || own.includes('-h');
}

function print(text: string): number {
  process.stdout.write(text);
  return 0;
}

async function loadDemo(): Promise<Subcommand> {
  const { demo } = await import('./demo.ts');
  return {
    help: `Usage: clawnode demo

Opens a sandbox, runs workloads behind a service and an ingress, drives all of it through MCP tools and shows what
happens. Exit code 0 only if every step was observed.
`,
    run: demo,
  };
}

function helpText(): string {
  const width = Math.max(...Object.keys(SUBCOMMANDS).map((name) => name.length));
  const lines = Object.entries(SUBCOMMANDS).map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`);
  return `Usage: clawnode SUBCOMMAND [ARGUMENTS]

${lines.join('\n')}

\`clawnode help SUBCOMMAND\` tells more, \`clawnode help invoke\` names all commands; \`clawnode --version\` tells the version.
CLAWNODE_SOCKET names the agent's socket where it is not /run/clawnode/agent.sock; every subcommand that needs one heeds it.
Exit codes: 0 done, 1 failed, 2 wrong usage.
`;
}
