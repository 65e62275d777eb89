/** The `docker` runtime: one container per workload, without a network of Docker's. It knows no links and no rules; the Engine keeps its state. */
import { setTimeout as delay } from 'node:timers/promises';
import { ClawError } from '../errors.ts';
import { openDockerEngine, type Container, type DockerEngine } from './docker-engine.ts';
import { cleanLine } from './log-tail.ts';

export interface DockerSpec {
  readonly id: string;
  readonly namespace: string;
  readonly name: string;
  readonly image: string;
  /** Empty: what the image says. */
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly restart: 'no' | 'always';
}

export interface DockerRuntime {
  /**
   * Makes sure that the container exists and was started, and under restart `always` that it runs; resolves with how it is then.
   * Idempotent, also after this process was killed at any moment: the container is found by its name and label.
   */
  start(spec: DockerSpec, signal: AbortSignal): Promise<Container>;
  /** TERM, grace, KILL, removal. Idempotent. */
  stop(spec: Pick<DockerSpec, 'id' | 'namespace' | 'name'>, options: { graceMs: number }, signal: AbortSignal): Promise<void>;
  /** Any container, by id or name. */
  inspect(container: string, signal: AbortSignal): Promise<Container | undefined>;
  /** Throws `INVALID_ARGUMENT` when the Engine does not hold the image. */
  requireImage(image: string, signal: AbortSignal): Promise<void>;
  ping(signal: AbortSignal): Promise<void>;
  /** The last lines of output, oldest first, without control sequences. */
  logs(spec: Pick<DockerSpec, 'id' | 'namespace' | 'name'>, tail: number, signal: AbortSignal): Promise<string[]>;
  /** Removes containers of this node whose workload id is not among these; gives their number. */
  removeOthers(known: ReadonlySet<string>, signal: AbortSignal): Promise<number>;
  /** Told of a container that started, ended or went, and without one when any may have: the Engine came or went. */
  onChange(listener: (change: ContainerChange | undefined) => void): () => void;
  close(): Promise<void>;
}

export interface ContainerChange {
  readonly container: string;
  /** The workload's id, for a container of ours. */
  readonly workload: string | undefined;
}

export interface DockerRuntimeOptions {
  readonly socketPath: string;
  /** Marks containers as this node's. */
  readonly node: string;
}

const WORKLOAD_LABEL = 'clawnode.workload';
const NODE_LABEL = 'clawnode.node';
const ORPHAN_GRACE_MS = 2000;
const RECONNECT_MS = { first: 250, most: 2000 };

export function openDockerRuntime({ socketPath, node }: DockerRuntimeOptions): DockerRuntime {
  const engine = openDockerEngine(socketPath);
  const ended = new AbortController();
  const listeners = new Set<(change: ContainerChange | undefined) => void>();
  const tell = (change?: ContainerChange): void => {
    for (const listener of listeners) listener(change);
  };
  const watching = watchEngine(engine, tell, ended.signal);

  const find = async (spec: Pick<DockerSpec, 'id' | 'namespace' | 'name'>, signal: AbortSignal): Promise<Container | undefined> => {
    const found = await engine.inspect(containerName(spec), signal);
    return found?.labels[WORKLOAD_LABEL] === spec.id ? found : undefined;
  };

  return {
    start: async (spec, signal) => {
      const found = (await find(spec, signal)) ?? (await engine.inspect(await create(engine, { spec, node }, signal), signal));
      if (found === undefined) throw new ClawError('WORKLOAD_FAILED', 'its container was removed as soon as it was made');
      const due = found.state === 'created' || (found.state === 'exited' && spec.restart === 'always');
      if (!due) return found;
      await engine.start(found.id, signal);
      return (await engine.inspect(found.id, signal)) ?? found;
    },
    stop: async (spec, options, signal) => {
      const found = await find(spec, signal);
      if (found !== undefined) await engine.remove(found.id, options, signal);
    },
    inspect: (container, signal) => engine.inspect(container, signal),
    requireImage: async (image, signal) => {
      if (await engine.hasImage(image, signal)) return;
      throw new ClawError('INVALID_ARGUMENT', `the Docker Engine of this node has no image ${image}`, {
        path: 'image',
        hint: `Images are not fetched by themselves: \`docker pull ${image}\` on the node, or \`docker images\` for those that it has.`,
      });
    },
    ping: (signal) => engine.ping(signal),
    logs: async (spec, tail, signal) => {
      const found = await find(spec, signal);
      if (found === undefined) return [];
      const lines = (await engine.logs({ id: found.id, tail }, signal)).split('\n');
      if (lines.at(-1) === '') lines.pop();
      return lines.slice(-tail).map(cleanLine);
    },
    removeOthers: async (known, signal) => {
      let removed = 0;
      for (const id of await engine.list(`${NODE_LABEL}=${node}`, signal)) {
        const found = await engine.inspect(id, signal);
        if (found === undefined || known.has(found.labels[WORKLOAD_LABEL] ?? '')) continue;
        await engine.remove(id, { graceMs: ORPHAN_GRACE_MS }, signal);
        removed += 1;
      }
      return removed;
    },
    onChange: (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    close: async () => {
      ended.abort();
      await watching;
    },
  };
}

/** The name of a workload's container. */
export function containerName({ namespace, name }: Pick<DockerSpec, 'namespace' | 'name'>): string {
  return `claw-${namespace}-${name}`;
}

async function create(engine: DockerEngine, { spec, node }: { spec: DockerSpec; node: string }, signal: AbortSignal): Promise<string> {
  const { id, image, command, env, restart } = spec;
  return await engine.create(
    {
      name: containerName(spec),
      Image: image,
      ...(command.length === 0 ? {} : { Cmd: [...command] }),
      Env: Object.entries(env).map(([key, value]) => `${key}=${value}`),
      Labels: { [WORKLOAD_LABEL]: id, [NODE_LABEL]: node },
      HostConfig: {
        // The veth is put in from outside. A network of Docker's would be a second way in and out, past every rule of ours.
        NetworkMode: 'none',
        // The Engine's own policy works on while no agent does.
        RestartPolicy: { Name: restart },
        // Raw packets are nobody's need here, and device nodes neither; set-id programs gain nothing.
        CapDrop: ['NET_RAW', 'MKNOD', 'AUDIT_WRITE'],
        SecurityOpt: ['no-new-privileges'],
        LogConfig: { Type: 'json-file', Config: { 'max-size': '8m', 'max-file': '2' } },
      },
    },
    signal,
  );
}

/** Listens for as long as it can, and tells of every gap: what happened in it nobody else will tell. */
async function watchEngine(engine: DockerEngine, tell: (change?: ContainerChange) => void, signal: AbortSignal): Promise<void> {
  let delayMs = RECONNECT_MS.first;
  while (!signal.aborted) {
    try {
      const onOpen = (): void => {
        delayMs = RECONNECT_MS.first;
        tell();
      };
      await engine.watch({ onOpen, onEvent: ({ container, labels }) => tell({ container, workload: labels[WORKLOAD_LABEL] }) }, signal);
      if (!signal.aborted) tell();
    } catch {
      // An Engine that is not there is told to whoever asks something of it.
    }
    await delay(delayMs, undefined, { signal }).catch(() => undefined);
    delayMs = Math.min(delayMs * 2, RECONNECT_MS.most);
  }
}
