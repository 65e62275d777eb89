/** The outer supervisor of a sandbox: opens it, waits for the agent inside, lets commands in, publishes the ingress, ends it all. */
import { readFile } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { start, type Argv } from '../drivers/exec.ts';
import { ClawError } from '../errors.ts';
import { connectAgent, restoreError } from '../surfaces/agent-client.ts';
import { startInit, type Init } from './init.ts';
import { childrenOf, signalProcess } from './processes.ts';
import { publish, type Publication } from './publish.ts';
import { ENTER_SCRIPT } from './scripts.ts';
import { insideSearchPath } from './search-path.ts';
import { createSharedDirectory, type SharedDirectory } from './shared-directory.ts';

const READY_TIMEOUT_MS = 30_000;
const READY_POLL_MS = 10;
const DEFAULT_INGRESS_PORT = 8443;

export type Child = ReturnType<typeof start>;
export type Stdio = NonNullable<NonNullable<Parameters<typeof start>[1]>['stdio']>;

export interface SandboxOptions {
  /** The agent's YAML configuration. */
  readonly configFile?: string;
  /** The first port to try on the outer loopback; 8443 unless told. */
  readonly ingressPort?: number;
  /** The program that is kept running inside; ours unless told. */
  readonly agent?: (shared: SharedDirectory) => Argv;
}

export interface Sandbox {
  readonly socketPath: string;
  /** PID 1 of the sandbox, as the outside sees it. */
  readonly initPid: number;
  /** Where the ingress is reached from outside. */
  readonly ingressUrl: string;
  /** The agent's log, while the sandbox lives. */
  readonly agentLog: string;
  /** Settles when the sandbox has ended, for whatever reason; never rejects. */
  readonly ended: Promise<void>;
  /**
   * Starts a program inside, in the same directory, with `env` beside our own environment, `CLAWNODE_SOCKET` set and `clawnode`
   * on its PATH. Its exit code or signal is the program's; 127 when it was not found.
   */
  readonly enter: (argv: Argv, stdio: Stdio, env?: Readonly<Record<string, string>>) => Child;
  /** Ends everything inside and removes the shared directory. May be called more than once. */
  readonly close: () => Promise<void>;
}

export interface StartingSandbox extends Sandbox {
  /** Settles when the agent inside is ready. Rejects with TIMEOUT or with why it could not start; the sandbox is then still to be closed. */
  readonly ready: Promise<void>;
}

/**
 * Opens a sandbox and waits until its agent is ready. Whatever happens to this process, everything inside ends with it.
 * Throws SANDBOX_UNAVAILABLE (no user namespaces here), MISSING_BINARY, TIMEOUT, or why the agent could not start.
 */
export async function openSandbox(options: SandboxOptions, signal: AbortSignal): Promise<Sandbox> {
  const { ready, ...sandbox } = await startSandbox(options, signal);
  try {
    await ready;
    return sandbox;
  } catch (error) {
    await sandbox.close();
    throw error;
  }
}

/** The same without waiting for the agent: by then it is known that there can be a sandbox here. Throws SANDBOX_UNAVAILABLE or MISSING_BINARY. */
export async function startSandbox(options: SandboxOptions, signal: AbortSignal): Promise<StartingSandbox> {
  signal.throwIfAborted();
  const shared = await createSharedDirectory();
  let init: Init | undefined;
  let publication: Publication | undefined;
  let closing: Promise<void> | undefined;
  const closed = new AbortController();
  const close = (): Promise<void> => {
    closing ??= (async () => {
      closed.abort(new ClawError('CANCELLED', 'the sandbox was closed before its agent was ready'));
      await publication?.close();
      await init?.stop();
      await shared.remove();
    })();
    return closing;
  };
  try {
    // The agent tells where its ingress is reached, so the port comes first; until the proxy runs, connections to it break off.
    publication = await publish({ socketPath: shared.ingressSocket, firstPort: options.ingressPort ?? DEFAULT_INGRESS_PORT });
    const ingressUrl = `http://127.0.0.1:${publication.port}`;
    const agent = options.agent?.(shared) ?? agentArgv(shared, { ingressUrl, configFile: options.configFile });
    init = startInit({ initScript: shared.initScript, sharedPath: shared.path, agent });
    const initPid = await init.up(signal);
    const ready = agentReady(init, shared, AbortSignal.any([signal, closed.signal]));
    // Whoever closes it before has no need to know that it never was.
    ready.catch(() => undefined);
    return {
      ready,
      socketPath: shared.agentSocket,
      initPid,
      ingressUrl,
      agentLog: shared.agentLog,
      ended: init.ended,
      enter: (argv, stdio, env = {}) => enter({ initPid, shared, argv, stdio, env }),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Signals the program that `enter` started: the child itself is only `nsenter`, which passes no signal on. */
export async function signalEntered(child: Child, signal: NodeJS.Signals): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const [entered] = await childrenOf(child.pid);
  if (entered === undefined) child.kill(signal);
  else signalProcess(entered, signal);
}

function agentArgv(shared: SharedDirectory, { ingressUrl, configFile }: { ingressUrl: string; configFile: string | undefined }): Argv {
  // The built program has the same files with another ending.
  const program = join(import.meta.dirname, `agent-process${extname(import.meta.filename)}`);
  const paths = ['--state-dir', shared.stateDir, '--socket', shared.agentSocket, '--publish', shared.ingressSocket, '--published', ingressUrl];
  return [process.execPath, program, ...paths, ...(configFile === undefined ? [] : ['--config', configFile])];
}

async function agentReady(init: Init, shared: SharedDirectory, signal: AbortSignal): Promise<void> {
  const agent = connectAgent(shared.agentSocket);
  const deadline = AbortSignal.timeout(READY_TIMEOUT_MS);
  const either = AbortSignal.any([signal, deadline]);
  while (!(await isReady(agent, either))) {
    signal.throwIfAborted();
    if (init.agentExits.length > 0) throw await agentFailed(init, shared);
    if (deadline.aborted) {
      throw new ClawError('TIMEOUT', `the sandbox's agent was not ready after ${READY_TIMEOUT_MS} ms`, { hint: await lastWords(shared) });
    }
    await delay(READY_POLL_MS);
  }
}

async function isReady(agent: ReturnType<typeof connectAgent>, signal: AbortSignal): Promise<boolean> {
  try {
    return (await agent.health(signal)).ready;
  } catch (error) {
    if (error instanceof ClawError && (error.code === 'AGENT_UNREACHABLE' || error.code === 'CANCELLED')) return false;
    throw error;
  }
}

async function agentFailed(init: Init, shared: SharedDirectory): Promise<ClawError> {
  const words = await lastWords(shared);
  return (
    restoreError(words) ?? new ClawError('PROCESS_FAILED', `the sandbox's agent ended with ${init.agentExits[0]} before it was ready`, { hint: words })
  );
}

/** The last line of the agent's log; an agent that gives up writes its error there as JSON. */
async function lastWords(shared: SharedDirectory): Promise<string> {
  const log = await readFile(shared.agentLog, 'utf8').catch(() => '');
  return log.trim().split('\n').at(-1) ?? '';
}

interface Entry {
  readonly initPid: number;
  readonly shared: SharedDirectory;
  readonly argv: Argv;
  readonly stdio: Stdio;
  readonly env: Readonly<Record<string, string>>;
}

function enter({ initPid, shared, argv, stdio, env }: Entry): Child {
  const namespaces = ['--user', '--preserve-credentials', '--net', '--mount', '--pid'];
  return start(
    ['nsenter', '-t', String(initPid), ...namespaces, 'sh', '-c', ENTER_SCRIPT, 'clawnode-enter', process.cwd(), process.env['LC_ALL'] ?? '', ...argv],
    { stdio, env: { ...process.env, ...env, PATH: insideSearchPath(process.env['PATH'], shared.programs), CLAWNODE_SOCKET: shared.agentSocket } },
  );
}
