/** The whole agent, opened in this process on the kernel of the test's namespace, and the servers and hosts that its tests send packets to. */
import { strict as assert } from 'node:assert';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { readFile, readdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { stringify } from 'yaml';
import { z } from 'zod';
import { openAgent, type Agent } from '../../src/agent.ts';
import { cleanup, type CleanupReport } from '../../src/cleanup.ts';
import { run, start } from '../../src/drivers/exec.ts';
import { connectAgent } from '../../src/surfaces/agent-client.ts';
import { clientIn, localClient, type Attempt, type Client } from './agent-prober.ts';
import { BACKEND, IPTABLES } from './backend.ts';
import { stdoutOf } from './namespace.ts';

const DIRECTORY = '/run/clawnode-test';
export const STATE_DIRECTORY = `${DIRECTORY}/state`;
export const SOCKET_PATH = `${DIRECTORY}/socket/agent.sock`;
const AGENT_LOG = `${DIRECTORY}/agent.log`;
const { signal } = new AbortController();

const workloadAnswer = z.object({ id: z.string(), name: z.string(), meshIp: z.string(), state: z.string(), enforced: z.boolean() });
const configuration = z.record(z.string(), z.unknown());
const enforcedAnswer = z.object({ enforced: z.literal(true) });

export interface TestWorkload {
  readonly id: string;
  readonly name: string;
  readonly ip: string;
  readonly netns: string;
  readonly hostInterface: string;
}

export interface ServerOptions {
  readonly labels?: Readonly<Record<string, string>>;
  /** What it listens on, e.g. `tcp:8080`; one TCP server on 8080 unless told. */
  readonly listen?: readonly string[];
  readonly ports?: readonly { name?: string; port: number; protocol?: string }[];
}

export interface TestAgent {
  /** One command through the agent's socket. */
  invoke(command: string, params?: unknown): Promise<Record<string, unknown>>;
  /** Creates a service and gives its virtual IP, once that is programmed. */
  service(name: string, params: Readonly<Record<string, unknown>>): Promise<string>;
  workload(name: string, params: Readonly<Record<string, unknown>>): Promise<TestWorkload>;
  /** Runs a workload that answers every connection and datagram with its name and the peer's address, and waits until it does. */
  server(name: string, options?: ServerOptions): Promise<TestWorkload>;
  stop(...names: readonly string[]): Promise<void>;
  /** Stops every workload and deletes every service and ingress. */
  clear(): Promise<void>;
  /** Closes the agent as a restart does. */
  close(): Promise<void>;
  /** Opens the agent again on the same state, with other configuration if told. */
  reopen(config?: unknown): Promise<void>;
  /** What `clawnode cleanup` does; the agent must be closed. */
  cleanup(): Promise<CleanupReport>;
}

/** The client of the node itself. */
export const host: Client = localClient();

const opened = new AsyncDisposableStack();

/** Closes all that was opened here. Register it before anything is opened: what stays open keeps the test process alive. */
export async function closeEverything(): Promise<void> {
  await opened.disposeAsync();
  await host.close();
}

/** A client in the workload's network, as root there, until everything is closed. */
export function inside({ netns }: Pick<TestWorkload, 'netns'>): Client {
  const client = clientIn(netns);
  opened.defer(() => client.close());
  return client;
}

/** `config` is what its configuration file holds. */
export async function openTestAgent(config: unknown = {}): Promise<TestAgent> {
  let agent: Agent | undefined;
  const reopen = async (changed: unknown = config): Promise<void> => {
    agent = await openAgent(
      { mode: 'sandbox', nodeId: 'node-1', stateDir: STATE_DIRECTORY, socketPath: SOCKET_PATH, configFile: writeConfig(changed), logger: agentLogger() },
      signal,
    );
  };
  opened.defer(async () => agent?.close());
  await reopen();
  const client = connectAgent(SOCKET_PATH);
  const invoke = async (command: string, params: unknown = {}): Promise<Record<string, unknown>> =>
    z.record(z.string(), z.unknown()).parse(await client.invoke(command, params, signal));
  const workload: TestAgent['workload'] = async (name, params) => {
    const { id, meshIp, state, enforced } = workloadAnswer.parse(await invoke('workload.run', { name, ...params }));
    assert.ok(enforced && state !== 'failed', `workload ${name} is ${state}`);
    return { id, name, ip: meshIp, netns: `claw-${id}`, hostInterface: `clawv${id}` };
  };
  const stop: TestAgent['stop'] = async (...names) => {
    await Promise.all(names.map(async (name) => enforcedAnswer.parse(await invoke('workload.stop', { name }))));
  };
  return {
    invoke,
    service: async (name, params) => {
      const answer = z.object({ clusterIp: z.string(), enforced: z.literal(true) }).parse(await invoke('service.create', { name, ...params }));
      return answer.clusterIp;
    },
    workload,
    server: async (name, { labels = {}, listen = ['tcp:8080'], ports = [] } = {}) => {
      const made = await workload(name, { labels, ports, command: serverCommand(name, listen) });
      await untilListening(host, made.ip, listen);
      return made;
    },
    stop,
    clear: async () => {
      const { ingresses } = z.object({ ingresses: z.array(z.object({ name: z.string() })) }).parse(await invoke('ingress.list', { limit: 500 }));
      const { services } = z.object({ services: z.array(z.object({ name: z.string() })) }).parse(await invoke('service.list', { limit: 500 }));
      const { workloads } = z.object({ workloads: z.array(z.object({ name: z.string() })) }).parse(await invoke('workload.list', { limit: 500 }));
      for (const { name } of ingresses) await invoke('ingress.delete', { name });
      await Promise.all(services.map(({ name }) => invoke('service.delete', { name })));
      await stop(...workloads.map(({ name }) => name));
    },
    close: async () => {
      await agent?.close();
      agent = undefined;
    },
    reopen,
    cleanup: () => cleanup({ stateDir: STATE_DIRECTORY, socketPath: SOCKET_PATH }, signal),
  };
}

/** A host beyond an interface of the node, which is its router: nothing of ours, known to the node by a route only. */
export interface OutsideHost {
  readonly ip: string;
  /** The interface of the node that leads to it. */
  readonly nodeInterface: string;
  readonly client: Client;
  /** Starts a server there, as a workload's. */
  serve(name: string, listen: readonly string[]): Promise<void>;
}

/** Call it before the agent opens if it shall be the underlay: the node's default route leads to the host. */
export async function buildOutside(): Promise<OutsideHost> {
  const [netns, nodeInterface, ip, nodeIp] = ['outside', 'uplink0', '192.0.2.2', '192.0.2.1'];
  await run(['ip', 'netns', 'add', netns]);
  const lines = [
    `link add ${nodeInterface} type veth peer name eth0 netns ${netns}`,
    `addr add ${nodeIp}/24 dev ${nodeInterface}`,
    `link set ${nodeInterface} up`,
  ];
  await run(['ip', '-batch', '-'], { input: lines.join('\n') });
  await run(['ip', '-n', netns, '-batch', '-'], {
    input: `link set lo up\naddr add ${ip}/24 dev eth0\nlink set eth0 up\nroute add default via ${nodeIp}\n`,
  });
  await run(['ip', 'route', 'add', 'default', 'via', ip]);
  const client = inside({ netns });
  return {
    ip,
    nodeInterface,
    client,
    serve: async (name, listen) => {
      const [program, ...args] = serverCommand(name, listen);
      const server = start(['nsenter', `--net=/run/netns/${netns}`, program ?? '', ...args], { stdio: 'ignore' });
      opened.defer(() => void server.kill());
      await untilListening(client, ip, listen);
    },
  };
}

/** Starts the agent as a process of its own, for tests that kill it, and gives it once it takes calls. */
export async function startAgentProcess(): Promise<ReturnType<typeof launchAgentProcess>> {
  const agent = launchAgentProcess();
  await until('the agent process takes calls', () => connectAgent(SOCKET_PATH).health(signal));
  return agent;
}

/** The same at once. */
export function launchAgentProcess(): { readonly kill: () => Promise<void> } {
  const program = new URL('../../src/sandbox/agent-process.ts', import.meta.url).pathname;
  const paths = ['--state-dir', STATE_DIRECTORY, '--socket', SOCKET_PATH];
  const options = [...paths, '--publish', `${DIRECTORY}/publish.sock`, '--published', 'http://127.0.0.1:8443', '--config', writeConfig({ nodeId: 'node-1' })];
  const child = start(['setpriv', '--pdeathsig', 'KILL', process.execPath, program, ...options], { stdio: 'ignore' });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL');
    await ended;
  };
  opened.defer(kill);
  return { kill };
}

/** Waits until `check` no longer throws. */
export async function until<Result>(what: string, check: () => Promise<Result> | Result): Promise<Result> {
  for (const deadline = performance.now() + 15_000; ; await sleep(20)) {
    try {
      return await check();
    } catch (error) {
      if (performance.now() > deadline) throw new Error(`${what}: not within 15 s`, { cause: error });
    }
  }
}

/** A refusal that the client was told of, not one that it had to wait for. */
export function assertRefused({ answer, error, ms }: Attempt, codes: readonly string[] = ['ECONNREFUSED', 'EPERM']): void {
  assert.ok(error !== undefined && codes.includes(error), `expected a refusal, got ${answer ?? error ?? ''}`);
  assert.ok(ms < 250, `refused only after ${ms.toFixed(0)} ms`);
}

/** The server's name in an answer, and the client as the server saw it. Fails when there was no answer. */
export function answered({ answer, error }: Attempt): { readonly name: string; readonly peer: string } {
  assert.ok(answer !== undefined, `no answer: ${error ?? ''}`);
  const [name = '', peer = ''] = answer.split(' ');
  return { name, peer };
}

const TABLES = ['raw', 'mangle', 'nat', 'filter'];

/** All rules, or those of one table, without the lines that tell the time. */
export async function savedRules(...args: readonly string[]): Promise<string> {
  // Table by table, since the list of tables that iptables-legacy-save would read is for the machine's own root alone.
  const each = args.includes('-t') ? [args] : TABLES.map((table) => [...args, '-t', table]);
  const saved: string[] = [];
  for (const one of each) saved.push(await stdoutOf(`${IPTABLES}-save`, ...one));
  return saved.join('').replaceAll(/^#.*\n/gm, '');
}

/** Our chains and jumps. */
export async function ownRules(): Promise<string> {
  const lines = (await savedRules()).split('\n');
  return lines.filter((line) => line.startsWith('*') || isOurs(line)).join('\n');
}

/** Everything else with its counters, but for the counters of the kernel's own chains, through which all traffic goes. */
export async function foreignRules(): Promise<string> {
  const lines = (await savedRules('-c')).split('\n').filter((line) => !isOurs(line));
  return lines.map((line) => line.replace(/^(:[A-Z]+ (?:ACCEPT|DROP)) .*/, '$1')).join('\n');
}

function isOurs(line: string): boolean {
  return /^:CLAW-|-A CLAW-| -[jg] CLAW-\S+$/.test(line);
}

/** How many packets the one rule with this text (without `-A`) has counted. */
export async function packets(table: string, rule: string): Promise<number> {
  const found = (await savedRules('-c', '-t', table)).split('\n').filter((line) => line.endsWith(`-A ${rule}`));
  assert.equal(found.length, 1, `${found.length} rules are -A ${rule}`);
  return Number(/^\[(\d+):/.exec(found[0] ?? '')?.[1]);
}

/** The pids of processes whose command line (arguments are separated by NUL) holds the text. */
export async function processesRunning(text: string): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(pids.map(async (pid) => ({ pid: Number(pid), line: await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '') })));
  return lines.filter(({ line }) => line.includes(text)).map(({ pid }) => pid);
}

/** The lines that the agent has logged so far. */
export function agentLog(): string[] {
  return readFileSync(AGENT_LOG, 'utf8').trim().split('\n');
}

function agentLogger() {
  return pino({ level: 'info' }, pino.destination({ dest: AGENT_LOG, mkdir: true, sync: true }));
}

function writeConfig(config: unknown): string {
  mkdirSync(DIRECTORY, { recursive: true });
  const file = `${DIRECTORY}/config.yaml`;
  writeFileSync(file, stringify({ iptablesBackend: BACKEND, ...configuration.parse(config) }));
  return file;
}

export function serverCommand(name: string, listen: readonly string[]): string[] {
  return [process.execPath, '-e', SERVER, name, ...listen];
}

async function untilListening(client: Client, ip: string, listen: readonly string[]): Promise<void> {
  for (const entry of listen) {
    const [protocol, port] = entry.split(':');
    await until(`${ip} answers on ${entry}`, async () => {
      const options = { timeoutMs: 500 };
      answered(await (protocol === 'udp' ? client.udp(ip, Number(port), options) : client.tcp(ip, Number(port), options)));
    });
  }
}

/** Greets each connection with its name, the peer's address and port, and its own port, then echoes; an HTTP client is answered as such. */
const SERVER = `
  const [name, ...listen] = process.argv.slice(1);
  for (const entry of listen) {
    const [protocol, port] = entry.split(':');
    if (protocol === 'udp') {
      const socket = require('node:dgram').createSocket('udp4');
      socket.on('error', () => {});
      socket.on('message', (_, peer) => socket.send([name, peer.address, peer.port, port].join(' '), peer.port, peer.address));
      socket.bind(Number(port), '0.0.0.0');
    } else if (protocol === 'http') {
      require('node:http').createServer((request, response) => response.end(name + ' ' + request.url)).listen(Number(port), '0.0.0.0');
    } else {
      require('node:net').createServer((socket) => {
        socket.on('error', () => {});
        socket.write([name, socket.remoteAddress, socket.remotePort, port].join(' ') + '\\n');
        socket.pipe(socket);
      }).listen(Number(port), '0.0.0.0');
    }
  }
`;
