/** `clawnode simulate`: network.simulate over a file, without an agent. It touches nothing. */
import { readFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { parse } from 'yaml';
import { findTool } from '../../../tools/index.ts';
import { simulateInput } from '../../../tools/reach.ts';
import { invalidArguments } from '../../argument-errors.ts';
import { ClawError, toClawError } from '../../errors.ts';
import { simulate as answer } from '../../managers/simulation.ts';
import { table } from './table.ts';
import { parseArguments, UsageError, type Subcommand } from './usage.ts';

export const simulate: Subcommand = {
  help: `Usage: clawnode simulate -f FILE [--json]

Tells who could reach whom under policies, workloads and namespaces that FILE holds, - for standard input: the arguments of
network.simulate as JSON or YAML (docs/commands.md). It needs no agent and no rights, and touches nothing. For example
  workloads:
    - {name: web, labels: {app: web}}
    - {name: job}
    - {name: db, labels: {app: db}, ports: [{port: 5432}]}
  policies:
    - {name: db, selector: {app: db}, ingress: [{port: 5432, from: {selector: {app: web}}}]}
Without probes, every workload is asked to every declared port of every workload.

  -f, --file FILE  the question
  --json           the answer of network.simulate as it is

Exit code: 0 whatever the verdicts are; 1 when the question is wrong, which prints {"code", "message", "path"?, "hint"?} as
JSON on standard error.
`,
  run: async (argv) => {
    const { values } = parseArguments({ args: argv, options: { file: { type: 'string', short: 'f' }, json: { type: 'boolean', default: false } } });
    if (values.file === undefined) throw new UsageError('-f FILE is missing');
    try {
      const results = await answer(readQuestion(await contents(values.file)));
      process.stdout.write(values.json ? `${JSON.stringify({ results })}\n` : report(results));
      return 0;
    } catch (thrown) {
      process.stderr.write(`${JSON.stringify(toClawError(thrown))}\n`);
      return 1;
    }
  },
};

async function contents(file: string): Promise<string> {
  if (file === '-') return text(process.stdin);
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ClawError('INVALID_ARGUMENT', `${file} can not be read: ${reason}`, { path: 'file', hint: 'Give a file, or - for standard input.', cause });
  }
}

function readQuestion(given: string) {
  const tool = findTool('network.simulate');
  const parsed = simulateInput.safeParse(parseYaml(given) ?? {}, { reportInput: true });
  if (parsed.success) return parsed.data;
  throw tool === undefined ? parsed.error : invalidArguments(tool, parsed.error);
}

/** JSON is YAML too. */
function parseYaml(given: string): unknown {
  try {
    return parse(given, { prettyErrors: true });
  } catch (cause) {
    const reason = cause instanceof Error ? (cause.message.split('\n')[0] ?? '') : String(cause);
    throw new ClawError('INVALID_ARGUMENT', `the question is neither JSON nor YAML: ${reason}`, { path: 'file', hint: '`clawnode simulate --help` shows one.', cause });
  }
}

function report(results: Awaited<ReturnType<typeof answer>>): string {
  const rows = results.map(({ from, to, port, protocol, verdict, reason }) => [from, to, `${protocol} ${port}`, verdict, reason]);
  const denied = results.filter(({ verdict }) => verdict === 'deny').length;
  return `${rows.length === 0 ? '' : `${table([['FROM', 'TO', 'PORT', 'VERDICT', 'REASON'], ...rows])}\n`}${results.length - denied} allowed, ${denied} denied\n`;
}
