/** Speaks with one Docker Engine through dockerode: few calls, checked answers, and its errors in our terms. It knows no workload and keeps no state. */
import { createInterface } from 'node:readline';
import type Docker from 'dockerode';
import { z } from 'zod';
import { ClawError } from '../errors.ts';

export interface Container {
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
  /** `created` until its command was started once. */
  readonly state: 'created' | 'running' | 'restarting' | 'exited';
  /** While it runs: of its first process, as this machine counts. */
  readonly pid?: number;
  readonly exitCode: number;
  /** By the Engine's restart policy. */
  readonly restarts: number;
  /** What its network is to Docker: `none`, `host`, `container:ID`, a network's name. */
  readonly networkMode: string;
}

export interface ContainerEvent {
  readonly container: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** Every function throws ClawError `DOCKER_UNREACHABLE` when the Engine does not answer, and `DOCKER_FAILED` with its own words when it refuses. */
export interface DockerEngine {
  ping(signal: AbortSignal): Promise<void>;
  hasImage(image: string, signal: AbortSignal): Promise<boolean>;
  /** By id or name; undefined when there is none. */
  inspect(container: string, signal: AbortSignal): Promise<Container | undefined>;
  /** The ids of all containers with this label, running or not. */
  list(label: string, signal: AbortSignal): Promise<readonly string[]>;
  create(options: Docker.ContainerCreateOptions, signal: AbortSignal): Promise<string>;
  start(id: string, signal: AbortSignal): Promise<void>;
  /** TERM, grace, KILL, and it is gone. Idempotent. */
  remove(id: string, options: { graceMs: number }, signal: AbortSignal): Promise<void>;
  /** The end of its output, undecoded but joined: stdout and stderr in the order in which they came. */
  logs(options: { id: string; tail: number }, signal: AbortSignal): Promise<string>;
  /** Containers that start, end or go, until the signal or the Engine ends it; `onOpen` is called once nothing is missed any more. */
  watch(options: { onOpen: () => void; onEvent: (event: ContainerEvent) => void }, signal: AbortSignal): Promise<void>;
}

const CALL_TIMEOUT_MS = 30_000;

const inspected = z.object({
  Id: z.string(),
  RestartCount: z.int().default(0),
  State: z.object({ Running: z.boolean(), Restarting: z.boolean(), Pid: z.int(), ExitCode: z.int(), StartedAt: z.string() }),
  Config: z.object({ Labels: z.record(z.string(), z.string()).nullish() }),
  HostConfig: z.object({ NetworkMode: z.string() }),
});
const listed = z.array(z.object({ Id: z.string() }));
const event = z.object({ Actor: z.object({ ID: z.string(), Attributes: z.record(z.string(), z.string()).nullish() }) });

/** Connects with the first call: the Engine may come later. */
export function openDockerEngine(socketPath: string): DockerEngine {
  let connected: Promise<Docker> | undefined;
  const call = async <Answer>({ what, signal, timeoutMs = CALL_TIMEOUT_MS }: Call, act: (docker: Docker, abortSignal: AbortSignal) => Promise<Answer>): Promise<Answer> => {
    signal.throwIfAborted();
    // dockerode takes a tenth of a second to load, and most agents never need it.
    connected ??= import('dockerode').then(({ default: Engine }) => new Engine({ socketPath }));
    try {
      return await act(await connected, AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]));
    } catch (error) {
      signal.throwIfAborted();
      throw inOurTerms(error, { what, socketPath });
    }
  };

  return {
    ping: (signal) => call({ what: 'asking for its version', signal }, async (docker, abortSignal) => void (await docker.listContainers({ limit: 1, abortSignal }))),
    hasImage: (image, signal) => {
      const looking = call({ what: `looking for image ${image}`, signal }, async (docker) => Boolean(await docker.getImage(image).inspect()));
      return unlessAbsent(looking, false);
    },
    inspect: (container, signal) => {
      const looking = call({ what: `inspecting ${container}`, signal }, async (docker, abortSignal) => containerOf(await docker.getContainer(container).inspect({ abortSignal })));
      return unlessAbsent(looking, undefined);
    },
    list: (label, signal) =>
      call({ what: 'listing containers', signal }, async (docker, abortSignal) =>
        listed.parse(await docker.listContainers({ all: true, filters: { label: [label] }, abortSignal })).map(({ Id }) => Id),
      ),
    create: (options, signal) =>
      call({ what: `creating ${options.name ?? 'a container'}`, signal }, async (docker, abortSignal) => (await docker.createContainer({ ...options, abortSignal })).id),
    start: (id, signal) => call({ what: 'starting it', signal }, async (docker, abortSignal) => void (await docker.getContainer(id).start({ abortSignal }))),
    remove: async (id, { graceMs }, signal) => {
      const stopping = call({ what: `stopping ${id}`, signal, timeoutMs: CALL_TIMEOUT_MS + graceMs }, async (docker, abortSignal) => {
        await docker.getContainer(id).stop({ t: Math.ceil(graceMs / 1000), abortSignal });
      });
      await unlessAbsent(stopping, undefined, [304, 404]);
      const removal = call({ what: `removing ${id}`, signal }, async (docker, abortSignal) => void (await docker.getContainer(id).remove({ force: true, v: true, abortSignal })));
      // 409: it is being removed already.
      await unlessAbsent(removal, undefined, [404, 409]);
    },
    logs: ({ id, tail }, signal) =>
      call({ what: 'reading its output', signal }, async (docker, abortSignal) => unframed(await docker.getContainer(id).logs({ stdout: true, stderr: true, tail, abortSignal }))),
    watch: async ({ onOpen, onEvent }, signal) => {
      const stream = await call({ what: 'watching events', signal }, (docker) =>
        docker.getEvents({ filters: { type: ['container'], event: ['start', 'die', 'destroy'] }, abortSignal: signal }),
      );
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const lines = createInterface({ input: stream });
      // An Engine that is killed breaks the stream, and one that stops ends it; readline tells of an error a second time.
      for (const source of [stream, lines]) source.on('error', () => resolve()).on('close', () => resolve());
      lines.on('line', (line) => {
        try {
          const { Actor } = event.parse(JSON.parse(line));
          onEvent({ container: Actor.ID, labels: Actor.Attributes ?? {} });
        } catch (error) {
          reject(inOurTerms(error, { what: 'watching events', socketPath }));
        }
      });
      onOpen();
      try {
        await promise;
      } finally {
        lines.close();
      }
    },
  };
}

interface Call {
  /** For the message of a refusal. */
  readonly what: string;
  readonly signal: AbortSignal;
  readonly timeoutMs?: number;
}

function containerOf(answer: unknown): Container {
  const { Id, RestartCount, State, Config, HostConfig } = inspected.parse(answer);
  const never = State.StartedAt.startsWith('0001-');
  const state = State.Restarting ? 'restarting' : State.Running ? 'running' : never ? 'created' : 'exited';
  return {
    id: Id,
    labels: Config.Labels ?? {},
    state,
    ...(state === 'running' ? { pid: State.Pid } : {}),
    exitCode: State.ExitCode,
    restarts: RestartCount,
    networkMode: HostConfig.NetworkMode,
  };
}

/** Without a terminal the Engine puts eight bytes before each piece: the stream, three zeros, the length. */
function unframed(output: Buffer): string {
  const pieces: Buffer[] = [];
  for (let at = 0; at + 8 <= output.length; ) {
    const length = output.readUInt32BE(at + 4);
    pieces.push(output.subarray(at + 8, at + 8 + length));
    at += 8 + length;
  }
  return Buffer.concat(pieces).toString('utf8');
}

const refused = z.object({ statusCode: z.int(), json: z.object({ message: z.string() }).nullish().catch(undefined), reason: z.string().nullish() });

/** The HTTP status of an Engine that answered, as the cause of the error. */
class Refusal extends Error {
  readonly statusCode: number;
  constructor(statusCode: number, cause: unknown) {
    super(`HTTP ${statusCode}`, { cause });
    this.statusCode = statusCode;
  }
}

function inOurTerms(error: unknown, { what, socketPath }: { what: string; socketPath: string }): ClawError {
  if (error instanceof z.ZodError) return new ClawError('DOCKER_FAILED', `${what}: the Engine's answer is not understood`, { cause: error });
  const answer = refused.safeParse(error);
  if (answer.success) {
    const { statusCode, json, reason } = answer.data;
    return new ClawError('DOCKER_FAILED', `${what}: ${json?.message ?? reason ?? `HTTP ${statusCode}`}`, { cause: new Refusal(statusCode, error) });
  }
  return new ClawError('DOCKER_UNREACHABLE', `the Docker Engine does not answer on ${socketPath}: ${error instanceof Error ? error.message : String(error)}`, {
    hint: 'Start it (`sudo systemctl start docker`), or give its socket as workloads.docker.socket in the configuration.',
    cause: error,
  });
}

async function unlessAbsent<Answer, Absent>(call: Promise<Answer>, absent: Absent, statusCodes: readonly number[] = [404]): Promise<Answer | Absent> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof ClawError && error.cause instanceof Refusal && statusCodes.includes(error.cause.statusCode)) return absent;
    throw error;
  }
}
