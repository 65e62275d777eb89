/** Whether the ports that clawnode listens on are free, and who has them otherwise; it connects to none. */
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { basename } from 'node:path';
import type { Config } from '../../../config.ts';
import { run } from '../../../drivers/exec.ts';
import { DEFAULT_HTTP_PORT } from '../../http-port.ts';
import type { Finding } from './finding.ts';

export async function inspectPorts({ ingress, metrics }: Config, signal: AbortSignal): Promise<Finding[]> {
  const ports: readonly Port[] = [
    { port: ingress.port, host: '0.0.0.0', purpose: 'the ingress', need: 'recommended', ours: /\/runtime\/(hold|supervise)\.sh|\/proxy\/main\.[jt]s/, fix: 'choose another one with `ingress.port` in the configuration' },
    ...(metrics.enabled ? [{ port: metrics.port, host: '127.0.0.1', purpose: 'metrics', need: 'optional', ours: /clawnode(\.js)?\0up\0|\/sandbox\/agent-process\.[jt]s\0/, fix: 'choose another one with `metrics.port` in the configuration' } as const] : []),
    { port: DEFAULT_HTTP_PORT, host: '127.0.0.1', purpose: '`clawnode mcp --http`', need: 'optional', ours: /clawnode(\.js)?\0mcp\0/, fix: 'choose another one with `clawnode mcp --http --port PORT`' },
  ];
  return await Promise.all(ports.map((port) => inspectPort(port, signal)));
}

interface Port {
  readonly port: number;
  readonly host: string;
  readonly purpose: string;
  readonly need: Finding['need'];
  /** In the command line of whoever of us has it; arguments end with NUL. */
  readonly ours: RegExp;
  /** What to do when another program has it. */
  readonly fix: string;
}

async function inspectPort({ port, host, purpose, need, ours, fix }: Port, signal: AbortSignal): Promise<Finding> {
  const finding = { area: 'network', name: `port ${port}`, need, purpose } as const;
  const problem = await whyNotBound(port, host);
  if (problem === undefined) return { ...finding, state: 'ok', detail: 'free' };
  if (problem === 'EACCES') return { ...finding, state: 'ok', detail: 'only root may listen there, as the agent does' };
  if (problem !== 'EADDRINUSE') return { ...finding, state: 'warning', detail: problem };
  const holders = await holdersOf(port, signal);
  if (holders.some(({ commandLine }) => ours.test(commandLine))) return { ...finding, state: 'ok', detail: `in use by clawnode itself, for ${purpose}` };
  const sandbox = holders.find(({ commandLine }) => /clawnode(\.js)?\0/.test(commandLine));
  if (sandbox !== undefined) return { ...finding, state: 'note', detail: `in use by ${sandbox.name} (pid ${sandbox.pid})`, fix: `While it runs, nothing else can listen there: end it, or ${fix}.` };
  const look = `sudo ss -ltnp 'sport = :${port}'`;
  // Whose a socket of other users is, only root can see.
  if (holders.length === 0) return { ...finding, state: 'note', detail: 'in use by clawnode or another program of other users', fix: `See by whom: \`${look}\`. If it is not clawnode, stop it, or ${fix}.` };
  const names = holders.map(({ name, pid }) => `${name} (pid ${pid})`).join(', ');
  return { ...finding, state: 'warning', detail: `in use by ${names}`, fix: `Stop it, or ${fix}.` };
}

/** The system's name of the reason. */
async function whyNotBound(port: number, host: string): Promise<string | undefined> {
  const server = createServer();
  try {
    server.listen(port, host);
    await once(server, 'listening');
    return undefined;
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  } finally {
    server.close();
  }
}

interface Holder {
  readonly name: string;
  readonly pid: number;
  readonly commandLine: string;
}

async function holdersOf(port: number, signal: AbortSignal): Promise<Holder[]> {
  const { stdout } = await run(['ss', '-ltnpH', `sport = :${port}`], { signal }).catch(() => ({ stdout: '' }));
  signal.throwIfAborted();
  const found = [...stdout.matchAll(/"([^"]{1,40})",pid=(\d+),fd=\d+/g)].map(([, name = '', pid]) => ({ name: name.replaceAll(/[^\w.-]/g, '?'), pid: Number(pid) }));
  const each = [...new Map(found.map((holder) => [holder.pid, holder])).values()];
  return await Promise.all(
    each.map(async ({ name, pid }) => {
      const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
      return { name: nameIn(commandLine) ?? name, pid, commandLine };
    }),
  );
}

/** The program, of an interpreter its script, of ours the subcommand too: `python3 server.py`. Other arguments may be secrets. */
function nameIn(commandLine: string): string | undefined {
  const [program = '', script = '', subcommand = ''] = commandLine.split('\0');
  if (program === '') return undefined;
  const isScript = /^(node|python[\d.]*|perl|ruby|sh|bash)$/.test(basename(program)) && /^[\w./-]*\w\.?\w*$/.test(script) && !script.startsWith('-');
  const words = isScript ? [basename(script).replace(/^clawnode\.js$/, 'clawnode'), ...(basename(script) === 'clawnode.js' ? [subcommand] : [])] : [basename(program)];
  return words.join(' ').replaceAll(/[^\w. -]/g, '?').slice(0, 60);
}
