/** The life of one workload process: brings it up or adopts it, notices its end, restarts it; one act at a time. Until asked to start, it only watches. */
import { watch, type FSWatcher } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { ClawError, toClawError } from '../errors.ts';
import { planViews, SYSTEM_DIRECTORIES } from './confinement.ts';
import { isAlive } from './process-table.ts';
import type { ObservedProcess, ProcessSpec } from './process.ts';
import { nextDelayMs } from './restart-backoff.ts';
import { launch, lockIsFree, readRun, removeProcess, type RecordedRun } from './supervisor.ts';

export interface SupervisedProcess {
  readonly observed: () => ObservedProcess;
  /** Brings it up unless it lives or, under restart `no`, has run; from now on with this spec. */
  readonly ensure: (spec: ProcessSpec, signal: AbortSignal) => Promise<ObservedProcess>;
  /** Takes over what the directory records; answers false when it records nothing. Launches nothing: that begins with `ensure`. */
  readonly adopt: (spec: ProcessSpec, signal: AbortSignal) => Promise<boolean>;
  /** Notices an end that no file tells of. Reads one file of /proc. */
  readonly poll: () => void;
  readonly stop: (options: { graceMs: number }, signal: AbortSignal) => Promise<void>;
  /** Lets go of it; it goes on. */
  readonly release: () => Promise<void>;
}

export interface SupervisedProcessOptions {
  readonly directory: string;
  readonly hide: readonly string[];
  readonly uid: number | undefined;
  readonly gid: number | undefined;
  readonly startRefusal: string | undefined;
  readonly logBytes: number;
  readonly onChange: () => void;
}

const SETUP_POLL_MS = 10;
const LOCK_WAIT_MS = 5000;

export function superviseProcess(firstSpec: ProcessSpec, options: SupervisedProcessOptions): SupervisedProcess {
  const directory = join(options.directory, firstSpec.id);
  const letGo = new AbortController();
  let spec = firstSpec;
  let observed: ObservedProcess = { id: spec.id, state: 'starting', restarts: 0 };
  let living: RecordedRun | undefined;
  let watcher: FSWatcher | undefined;
  let timer: NodeJS.Timeout | undefined;
  let delayMs: number | undefined;
  let checking = false;
  let retryAt = 0;
  /** Set by the first `ensure`: before it the node's rules for this workload may not be in place. */
  let asked = false;
  let acts: Promise<unknown> = Promise.resolve();

  const exclusive = <Result>(act: () => Promise<Result>): Promise<Result> => {
    const result = acts.then(act);
    acts = result.catch(() => undefined);
    return result;
  };

  const mayRestart = (): boolean => spec.restart === 'always' && spec.stopping !== true;

  const launchNext = async (last: RecordedRun | undefined, signal: AbortSignal): Promise<void> => {
    const restarts = last === undefined ? 0 : last.restarts + (last.failure === undefined ? 1 : 0);
    const exitCode = last?.exitCode === undefined ? {} : { exitCode: last.exitCode };
    if (options.startRefusal !== undefined) return fail({ message: options.startRefusal, restarts: last?.restarts ?? 0, ...exitCode });
    observed = { id: spec.id, state: last === undefined ? 'starting' : 'restarting', restarts, ...exitCode };
    try {
      // The end is on record a moment before its supervisor has left.
      if (last !== undefined) await lockIsFree(directory, LOCK_WAIT_MS, signal);
      const { command, env, netns } = spec;
      const { uid, gid } = options;
      const user = uid === undefined ? {} : { user: { uid, gid } };
      // The names of other network namespaces are nobody's business either.
      const views = planViews({ hide: [...options.hide, dirname(netns)], freeze: SYSTEM_DIRECTORIES, uid });
      const next = { run: (last?.run ?? 0) + 1, restarts, command, env, netns, ...user, views, logBytes: options.logBytes };
      take(await launch(directory, next, signal));
    } catch (error) {
      if (signal.aborted) throw error;
      fail({ message: toClawError(error).message, restarts });
    }
    watchDirectory();
  };

  const take = (run: RecordedRun): void => {
    const { restarts, pid, startedAtMs, exitCode, failure } = run;
    const base = { id: spec.id, restarts, startedAt: new Date(startedAtMs).toISOString() };
    living = run.phase === 'ended' ? undefined : run;
    if (run.phase !== 'ended') {
      observed = { ...base, state: run.phase === 'running' ? 'running' : 'starting', pid };
    } else if (failure !== undefined) {
      fail({ message: failure, restarts, ...(exitCode === undefined ? {} : { exitCode }) });
    } else {
      observed = { ...base, state: mayRestart() ? 'restarting' : 'exited', ...(exitCode === undefined ? {} : { exitCode }) };
      if (!mayRestart()) return;
      if (options.startRefusal === undefined) scheduleLaunch(Date.now() - startedAtMs);
      else observed = { ...observed, state: 'failed', message: options.startRefusal };
    }
  };

  const fail = (outcome: Pick<ObservedProcess, 'restarts' | 'exitCode' | 'message'>): void => {
    living = undefined;
    observed = { id: spec.id, state: 'failed', ...outcome };
    // Under restart `no` the next `ensure` may try again, for the command never ran; not at once, for it may be asked in a loop.
    if (mayRestart() && options.startRefusal === undefined) scheduleLaunch(0);
    else if (asked) retryAt = Date.now() + (delayMs = nextDelayMs(delayMs, 0));
  };

  const scheduleLaunch = (ranMs: number): void => {
    if (!asked || timer !== undefined || letGo.signal.aborted) return;
    delayMs = nextDelayMs(delayMs, ranMs);
    timer = setTimeout(() => {
      void exclusive(async () => {
        timer = undefined;
        if (letGo.signal.aborted || !mayRestart()) return;
        const last = await readRun(directory);
        await (last?.phase === 'running' ? Promise.resolve(take(last)) : launchNext(last, letGo.signal));
        options.onChange();
      }).catch(reportUnlessLetGo);
    }, delayMs);
  };

  const cancelLaunch = (): void => {
    clearTimeout(timer);
    timer = undefined;
  };

  /** Only a defect or a broken disk gets here; it becomes what is observed, and the policy tries again. */
  const reportUnlessLetGo = (error: unknown): void => {
    if (letGo.signal.aborted) return;
    fail({ message: toClawError(error).message, restarts: observed.restarts });
    options.onChange();
  };

  const watchDirectory = (): void => {
    if (watcher !== undefined || letGo.signal.aborted) return;
    try {
      // The log lies one level deeper, so its writes wake nobody.
      watcher = watch(directory, { persistent: false }, check);
      watcher.on('error', unwatch);
    } catch {
      // Out of inotify watches: the poll notices everything too, only later.
      watcher = undefined;
    }
  };

  const unwatch = (): void => {
    watcher?.close();
    watcher = undefined;
  };

  const check = (): void => {
    if (checking || living === undefined || letGo.signal.aborted) return;
    checking = true;
    exclusive(async () => {
      checking = false;
      if (living === undefined || letGo.signal.aborted) return;
      const last = await readRun(directory);
      if (last === undefined || (last.run === living.run && last.phase === living.phase)) return;
      take(last);
      options.onChange();
    }).catch(reportUnlessLetGo);
  };

  /** A supervisor that the last agent launched and whose command does not run yet. */
  const readSettledRun = async (signal: AbortSignal): Promise<RecordedRun | undefined> => {
    for (;;) {
      const last = await readRun(directory);
      if (last?.phase !== 'setup') return last;
      await delay(SETUP_POLL_MS, undefined, { signal });
    }
  };

  return {
    observed: () => observed,
    ensure: (wanted, caller) =>
      exclusive(async () => {
        const signal = AbortSignal.any([caller, letGo.signal]);
        signal.throwIfAborted();
        spec = wanted;
        const first = !asked;
        asked = true;
        if (!mayRestart()) cancelLaunch();
        if (timer !== undefined || (living !== undefined && isAlive(living))) return observed;
        const last = await readSettledRun(signal);
        const neverRan = last === undefined || last.failure !== undefined;
        if (spec.stopping !== true && (neverRan ? Date.now() >= retryAt : first && last.phase === 'ended' && mayRestart())) await launchNext(last, signal);
        else if (last !== undefined && last.failure === undefined) take(last);
        else if (spec.stopping === true) observed = { ...observed, state: 'exited' };
        watchDirectory();
        return observed;
      }),
    adopt: (wanted, caller) =>
      exclusive(async () => {
        spec = wanted;
        const last = await readSettledRun(AbortSignal.any([caller, letGo.signal]));
        if (last === undefined) return false;
        take(last);
        watchDirectory();
        return true;
      }),
    poll: () => {
      if (living !== undefined && !isAlive(living)) check();
    },
    stop: async (stopOptions, signal) => {
      letGo.abort(new ClawError('CANCELLED', 'the workload is stopped'));
      clearTimeout(timer);
      unwatch();
      await exclusive(() => removeProcess(directory, stopOptions, signal));
    },
    release: async () => {
      letGo.abort(new ClawError('CANCELLED', 'the process runtime is closed'));
      clearTimeout(timer);
      unwatch();
      await acts;
    },
  };
}
