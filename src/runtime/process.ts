/** The `process` runtime: workloads as confined processes that outlive the agent. It knows no links, no rules and no store. */
import { mkdir, readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { ClawError } from '../errors.ts';
import { workloadId } from '../model/workload.ts';
import { planViews } from './confinement.ts';
import { readLogTail } from './log-tail.ts';
import { superviseProcess, type SupervisedProcess } from './supervised-process.ts';
import { removeProcess } from './supervisor.ts';

export interface ProcessSpec {
  /** Eight hex digits. */
  readonly id: string;
  /** Runs in `/`, with PATH, HOME=/, LANG and `env` as its whole environment. */
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly restart: 'no' | 'always';
  /** Set once it is to be stopped: from then on nothing starts it, neither `start` nor its restart policy. */
  readonly stopping?: boolean;
  /** The path of its network namespace, which exists. */
  readonly netns: string;
}

export interface ObservedProcess {
  readonly id: string;
  readonly state: 'starting' | 'running' | 'restarting' | 'exited' | 'failed';
  /** Its supervisor's: TERM to it reaches the command, and its KILL kills the command. */
  readonly pid?: number;
  /** Of the last run, ISO 8601. */
  readonly startedAt?: string;
  /** Of the last run; 128 + n for signal n. */
  readonly exitCode?: number;
  readonly restarts: number;
  /** Why it could not be started. */
  readonly message?: string;
}

export interface ProcessRuntime {
  /**
   * Makes it run; adopts it when it already does; resolves when it runs or has failed to start; from now on its restart policy counts.
   * Idempotent: one that has run to its end under restart `no` is not run again. One that never ran is tried again, at most every
   * 0.1 to 10 s. Call it once the workload's network and rules are in place: nothing else here launches anything.
   */
  start(spec: ProcessSpec, signal: AbortSignal): Promise<ObservedProcess>;
  /** TERM, grace, KILL; resolves when nothing of it is left, its directory neither. Idempotent; also for ids it never saw. */
  stop(id: string, options: { graceMs: number }, signal: AbortSignal): Promise<void>;
  /** What is known in memory; costs no system call. */
  observe(): ReadonlyMap<string, ObservedProcess>;
  /** Told after a process ended, was restarted, or failed to; never of what `start` or `stop` itself resolves with. */
  onChange(listener: (id: string) => void): () => void;
  /**
   * At agent start: takes over what lives, learns the exit codes of what ended, and ends and removes what has no spec. It launches
   * nothing: what ended under restart `always` is observed as `restarting` until `start` is called for it.
   */
  adopt(specs: readonly ProcessSpec[], signal: AbortSignal): Promise<void>;
  /** The last lines of output, oldest first, without control sequences; empty when there are none. */
  logs(id: string, tail: number): Promise<string[]>;
  /** Lets go without stopping anything. */
  close(): Promise<void>;
}

export interface ProcessRuntimeOptions {
  /** One directory per workload is made in it. A relative path counts from the directory this process is in now. */
  readonly directory: string;
  /** Directories that look empty to workloads: the agent's socket directory and its state directory. They must exist. */
  readonly hide: readonly string[];
  /** In host mode, the uid workloads run as. */
  readonly uid?: number;
  /** With a uid: their group; 65534 unless told, never the group that happens to have the uid's number. */
  readonly gid?: number;
  /** Why nothing may be started here, nor restarted: `start` then answers `failed` with this message. What lives is adopted all the same. */
  readonly startRefusal?: string;
  /** A log is two files of at most this size, which is 128 KiB or more; 8 MiB unless told. */
  readonly logBytes?: number;
  /** How often ends that no file tells of are looked for; 1,000 ms unless told. */
  readonly pollMs?: number;
}

/** An orphan without a record gets so long to end. */
const ORPHAN_GRACE_MS = 2000;

/** Throws ClawError `CONFIG_INVALID` when a directory to hide does not exist. */
export async function openProcessRuntime(options: ProcessRuntimeOptions): Promise<ProcessRuntime> {
  const { hide, uid, gid, startRefusal, logBytes = 8 * 1024 * 1024, pollMs = 1000 } = options;
  // A supervisor works in `/`.
  const directory = resolve(options.directory);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  planViews({ hide });
  const processes = new Map<string, SupervisedProcess>();
  const listeners = new Set<(id: string) => void>();
  let closed = false;
  const poll = setInterval(() => {
    for (const process of processes.values()) process.poll();
  }, pollMs);
  poll.unref();

  const find = (spec: ProcessSpec): SupervisedProcess => {
    const found = processes.get(spec.id);
    if (found !== undefined) return found;
    const onChange = (): void => {
      for (const listener of listeners) listener(spec.id);
    };
    const made = superviseProcess(spec, { directory, hide, uid, gid, startRefusal, logBytes, onChange });
    processes.set(spec.id, made);
    return made;
  };

  return {
    start: async (spec, signal) => {
      if (closed) throw new ClawError('CANCELLED', 'the process runtime is closed');
      directoryOf(directory, spec.id);
      return find(spec).ensure(spec, signal);
    },
    stop: async (id, stopOptions, signal) => {
      const process = processes.get(id);
      await (process === undefined ? removeProcess(directoryOf(directory, id), stopOptions, signal) : process.stop(stopOptions, signal));
      processes.delete(id);
    },
    observe: () => new Map([...processes].map(([id, process]) => [id, process.observed()])),
    onChange: (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    adopt: async (specs, signal) => {
      const wanted = new Map(specs.map((spec) => [spec.id, spec]));
      const found = (await readdir(directory)).filter((entry) => workloadId.safeParse(entry).success);
      await Promise.all(
        found.map(async (id) => {
          const spec = wanted.get(id);
          if (spec === undefined) await removeProcess(join(directory, id), { graceMs: ORPHAN_GRACE_MS }, signal);
          else if (!(await find(spec).adopt(spec, signal))) processes.delete(id);
        }),
      );
    },
    logs: (id, tail) => readLogTail(directoryOf(directory, id), tail),
    close: async () => {
      closed = true;
      clearInterval(poll);
      await Promise.all([...processes.values()].map((process) => process.release()));
    },
  };
}

function directoryOf(directory: string, id: string): string {
  if (!workloadId.safeParse(id).success) throw new ClawError('INVALID_ARGUMENT', `${JSON.stringify(id)} is no workload id`);
  return join(directory, id);
}
