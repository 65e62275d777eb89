/** Brings each workload of this node to where its record wants it: linked and running, or stopped and gone. One act per workload at a time. */
import type { Logger } from 'pino';
import { linksCompiler, netnsOf } from '../compile/links.ts';
import type { ConntrackFlush, WorkloadLink } from '../compile/kernel-state.ts';
import { ClawError, toClawError } from '../errors.ts';
import type { DesiredView } from '../managers/desired-view.ts';
import type { Node } from '../model/node.ts';
import type { ObservedWorkload } from '../model/observed.ts';
import { recordKey } from '../model/record.ts';
import type { Workload } from '../model/workload.ts';
import type { ObservedState } from '../observed/observed-state.ts';
import type { ObservedProcess, ProcessRuntime, ProcessSpec } from '../runtime/process.ts';
import type { Drains } from './drains.ts';
import type { DockerRuntime } from '../runtime/docker.ts';
import type { Joined } from './joined.ts';
import type { Loop } from './loop.ts';
import { watchJoined } from './joined-watch.ts';

export interface WorkloadControllerOptions {
  readonly node: Node;
  readonly view: DesiredView;
  readonly observed: ObservedState;
  readonly runtime: ProcessRuntime;
  /** Containers and attached networks. */
  readonly joined: Joined;
  readonly docker: Pick<DockerRuntime, 'onChange'> | undefined;
  readonly links: {
    ensure(link: WorkloadLink, signal?: AbortSignal): Promise<unknown>;
    list(): Promise<{ readonly netns: readonly string[] }>;
    remove(link: Pick<WorkloadLink, 'hostInterface' | 'netns'>, signal?: AbortSignal): Promise<unknown>;
  };
  readonly conntrack: { flush(entries: readonly ConntrackFlush[], signal?: AbortSignal): Promise<unknown> };
  readonly loop: Pick<Loop, 'programmed' | 'served'>;
  readonly drains: Pick<Drains, 'ended'>;
  /** The store write that ends a stop; resolves with its revision. */
  readonly removeStopped: (workload: Workload) => Promise<number>;
  readonly logger: Logger;
}

export interface WorkloadController {
  /** Resolves when the workload runs, has ended, or could not be started. */
  started(id: string, signal: AbortSignal): Promise<void>;
  /** Resolves with the revision at which the workload's record was removed. */
  removed(id: string, signal: AbortSignal): Promise<number>;
  /** The links that have to exist now: not those of workloads that are being started or stopped. */
  settledLinks(): readonly WorkloadLink[];
  /** Repairs one of these, unless its workload is being acted on by now. */
  repairLink(link: WorkloadLink, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** What a process gets between TERM and KILL. */
const STOP_GRACE_MS = 10_000;
/** So many workloads are worked on at a time: after a boot there may be hundreds, each costing some processes. */
const MOST_ACTS = 16;
const RETRY_MS = { first: 500, most: 30_000 };

interface Failure {
  readonly stopping: boolean;
  readonly delayMs: number;
  /** Runs until the next attempt is due. */
  timer: NodeJS.Timeout | undefined;
}

/** So many removals are remembered for a `removed` that asks late. */
const REMEMBERED = 1000;

export function startWorkloadController(options: WorkloadControllerOptions): WorkloadController {
  const { node, view, observed, runtime, joined, links, conntrack, drains, loop, logger } = options;
  const linksOf = linksCompiler(node);
  const [ended, acts] = [new AbortController(), new Map<string, Promise<void>>()];
  /** Those that only wait until their connections have ended, for an hour perhaps: others go on meanwhile. */
  const drainingIds = new Set<string>();
  const startedIds = new Set<string>();
  /** Started, but their container or network has changed since: to be looked at again. */
  const changedIds = new Set<string>();
  const removedAt = new Map<string, number>();
  const failures = new Map<string, Failure>();
  const listeners = new Set<() => void>();

  const tell = (): void => {
    for (const listener of listeners) listener();
  };

  const start = async (workload: Workload): Promise<void> => {
    const [link] = linksOf([workload]);
    if (link === undefined) return;
    // Its rules are proven before it has a network at all: a machine that has just booted holds no rule of ours, and would let everything pass.
    const { enforced, reason } = await loop.programmed(view.modRevision(recordKey('workloads', workload)), ended.signal);
    if (!enforced) throw new ClawError('KERNEL_REFUSED', `it is not started while its rules are not in force: ${reason ?? ''}`);
    observed.set(workload.id, workload.runtime === 'process' ? await startProcess(workload, link) : await join(workload, link));
    startedIds.add(workload.id);
  };

  const startProcess = async (workload: Workload, link: WorkloadLink): Promise<ObservedWorkload> => {
    await endWithoutNamespace(workload, link);
    await links.ensure(link, ended.signal);
    return observedOf(await runtime.start(processSpec(workload), ended.signal));
  };

  const join = async (workload: Workload, link: WorkloadLink): Promise<ObservedWorkload> => {
    const { id } = workload;
    // Until it is linked again nothing is sent to it.
    if (isObservedRunning(id) && !(await joined.isStill(workload))) observed.set(id, { state: 'restarting', restarts: observed.state.workloads.get(id)?.restarts ?? 0 });
    return await joined.ensure(workload, link, ended.signal);
  };

  /** A process whose network namespace lost its name can not be linked again: it would go on without a network. It is run anew. */
  const endWithoutNamespace = async ({ id, namespace, name }: Workload, link: WorkloadLink): Promise<void> => {
    const process = runtime.observe().get(id);
    if (process?.state !== 'running' || (await links.list()).netns.includes(link.netns)) return;
    logger.warn({ workload: `${namespace}/${name}` }, 'a workload lost its network namespace and is run anew');
    observed.set(id, { state: 'restarting', restarts: process.restarts + 1, message: 'its network namespace was removed' });
    await runtime.stop(id, { graceMs: STOP_GRACE_MS }, ended.signal);
  };

  const stop = async (workload: Workload): Promise<void> => {
    const { id } = workload;
    // Nothing new is sent to it any more, by kernel or proxy, before it is told to end.
    const revision = view.modRevision(recordKey('workloads', workload));
    await Promise.all([loop.programmed(revision, ended.signal), loop.served(revision, ended.signal)]);
    await drained(workload);
    if (workload.runtime === 'process') await runtime.stop(id, { graceMs: STOP_GRACE_MS }, ended.signal);
    else await joined.stop(workload, { graceMs: STOP_GRACE_MS }, ended.signal);
    const [link] = linksOf([workload]);
    if (link !== undefined) await links.remove(link, ended.signal);
    // Its address may belong to somebody else soon, and must not inherit its connections.
    await conntrack.flush([{ type: 'address', ip: workload.ip }], ended.signal);
    const removal = await options.removeStopped(workload);
    startedIds.delete(id);
    changedIds.delete(id);
    failures.delete(id);
    remember(removedAt, id, removal);
    observed.forget(id);
  };

  const drained = async ({ id, ip }: Workload): Promise<void> => {
    drainingIds.add(id);
    look();
    try {
      await drains.ended(ip, ended.signal);
    } finally {
      drainingIds.delete(id);
    }
  };

  const act = async (workload: Workload): Promise<void> => {
    // What changes from now on may be too late for this look at it.
    changedIds.delete(workload.id);
    try {
      await (workload.stopping ? stop(workload) : start(workload));
      failures.delete(workload.id);
    } catch (error) {
      if (ended.signal.aborted) return;
      startedIds.delete(workload.id);
      logger.error({ err: error, workload: `${workload.namespace}/${workload.name}`, stopping: workload.stopping }, 'a workload is not where it should be');
      // One that runs keeps its place in its services: what failed was only to look after it.
      const process = runtime.observe().get(workload.id);
      const runs = workload.runtime === 'process' ? process?.state === 'running' : isObservedRunning(workload.id) && (await joined.isStill(workload));
      if (!workload.stopping && !runs) observed.set(workload.id, { state: 'failed', restarts: process?.restarts ?? 0, message: toClawError(error).message });
      retryLater(workload);
    }
  };

  const retryLater = ({ id, stopping }: Workload): void => {
    const delayMs = Math.min((failures.get(id)?.delayMs ?? RETRY_MS.first / 2) * 2, RETRY_MS.most);
    const timer = setTimeout(() => {
      const failure = failures.get(id);
      if (failure !== undefined) failure.timer = undefined;
      look();
    }, delayMs);
    failures.set(id, { stopping, delayMs, timer });
  };

  const look = (): void => {
    if (ended.signal.aborted) return;
    for (const workload of view.state.workloads.values()) {
      const { id } = workload;
      if (acts.size - drainingIds.size >= MOST_ACTS) return;
      if (workload.node !== node.id || acts.has(id) || (startedIds.has(id) && !changedIds.has(id) && !workload.stopping)) continue;
      const failure = failures.get(id);
      // A stop does not wait until a failed start may be tried again.
      if (failure?.timer !== undefined && failure.stopping === workload.stopping) continue;
      clearTimeout(failure?.timer);
      const running = act(workload).finally(() => {
        acts.delete(id);
        tell();
        look();
      });
      acts.set(id, running);
    }
  };

  const stoppingIds = (): ReadonlySet<string> => new Set([...view.state.workloads.values()].filter(({ stopping }) => stopping).map(({ id }) => id));
  const isObservedRunning = (id: string): boolean => observed.state.workloads.get(id)?.state === 'running';
  const isSettled = (id: string): boolean => startedIds.has(id) && !changedIds.has(id) && !acts.has(id) && !stoppingIds().has(id);

  const waitUntil = <Found>(find: () => Found | undefined, signal: AbortSignal): Promise<Found> =>
    new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const done = (): void => {
        listeners.delete(check);
        signal.removeEventListener('abort', abort);
      };
      const check = (): void => {
        const found = find();
        if (found === undefined) return;
        done();
        resolve(found);
      };
      const abort = (): void => {
        done();
        reject(new ClawError('CANCELLED', 'the call was cancelled; the workload goes on to where it was told to go', { cause: signal.reason }));
      };
      listeners.add(check);
      signal.addEventListener('abort', abort, { once: true });
      check();
    });

  const unsubscribe = [
    view.onChange(look),
    runtime.onChange((id) => {
      const process = runtime.observe().get(id);
      if (process !== undefined && startedIds.has(id)) observed.set(id, observedOf(process));
    }),
    watchJoined({
      workloads: () => [...view.state.workloads.values()].filter((workload) => workload.node === node.id),
      docker: options.docker,
      isWrong: async (workload) => isSettled(workload.id) && !(await (isObservedRunning(workload.id) ? joined.isStill(workload) : joined.isAbsent(workload))),
      onChange: (ids, { retry }) => {
        for (const id of ids) {
          changedIds.add(id);
          if (!retry) continue;
          clearTimeout(failures.get(id)?.timer);
          failures.delete(id);
        }
        look();
      },
    }),
  ];
  look();

  return {
    started: async (id, signal) => {
      await waitUntil(() => (startedIds.has(id) || observed.state.workloads.get(id)?.state === 'failed' ? true : undefined), signal);
    },
    removed: (id, signal) => waitUntil(() => removedAt.get(id), signal),
    settledLinks: () => linksOf(view.state.workloads.values()).filter(({ id, owner }) => isSettled(id) && (owner === 'own' || isObservedRunning(id))),
    repairLink: async (link, signal) => {
      if (!isSettled(link.id)) return;
      if (!(await links.list()).netns.includes(link.netns)) {
        startedIds.delete(link.id);
        return look();
      }
      if (!isSettled(link.id)) return;
      const repairing = links.ensure(link, signal).then(() => undefined);
      // A stop that is asked for meanwhile waits for it, or the link would come back after its end.
      acts.set(
        link.id,
        repairing
          .catch(() => undefined)
          .finally(() => {
            acts.delete(link.id);
            look();
          }),
      );
      await repairing;
    },
    close: async () => {
      ended.abort();
      for (const { timer } of failures.values()) clearTimeout(timer);
      for (const stopListening of unsubscribe) stopListening();
      await Promise.allSettled(acts.values());
    },
  };
}

/** What answers and compile steps want to know of a process. */
export function observedOf({ state, restarts, exitCode, message }: ObservedProcess): ObservedWorkload {
  return { state, restarts, ...(exitCode === undefined ? {} : { exitCode }), ...(message === undefined ? {} : { message }) };
}

/** What the runtime needs to know of a workload. One that is being stopped is never started again, whatever its policy. */
export function processSpec(workload: Workload): ProcessSpec {
  return {
    id: workload.id,
    command: workload.command,
    env: workload.env,
    restart: workload.restart,
    stopping: workload.stopping,
    netns: `/run/netns/${netnsOf(workload.id)}`,
  };
}

function remember(removals: Map<string, number>, id: string, revision: number): void {
  removals.set(id, revision);
  const [oldest] = removals.keys();
  if (removals.size > REMEMBERED && oldest !== undefined) removals.delete(oldest);
}
