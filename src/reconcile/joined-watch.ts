/** Notices that a container or an attached network namespace came, went or changed; what follows from that is not decided here. */
import type { Workload } from '../model/workload.ts';
import type { DockerRuntime } from '../runtime/docker.ts';

export interface JoinedWatchOptions {
  readonly workloads: () => readonly Workload[];
  readonly docker: Pick<DockerRuntime, 'onChange'> | undefined;
  /** Whether an attached network namespace is there while it is not observed to be, or the other way round. */
  readonly isWrong: (workload: Workload) => Promise<boolean>;
  /** `retry`: what failed for want of the Engine may succeed now. */
  readonly onChange: (ids: readonly string[], options: { retry: boolean }) => void;
}

/** The kernel tells nobody that a name below /run/netns went: a look costs two calls of `stat`. */
const LOOK_MS = 1000;

/** Ends with the call of what it returns. */
export function watchJoined({ workloads, docker, isWrong, onChange }: JoinedWatchOptions): () => void {
  const report = (changed: (workload: Workload) => boolean, { retry }: { retry: boolean }): void => {
    const ids = workloads().filter(changed).map(({ id }) => id);
    if (ids.length > 0) onChange(ids, { retry });
  };
  const stopListening = docker?.onChange((change) => {
    report((workload) => {
      if (workload.runtime === 'docker') return change === undefined || change.workload === workload.id;
      return workload.container !== undefined && (change === undefined || change.container === workload.container);
    }, { retry: change === undefined });
  });
  let looking = false;
  const look = async (): Promise<void> => {
    if (looking) return;
    looking = true;
    const wrong = new Set<string>();
    for (const workload of workloads()) if (workload.netns !== undefined && (await isWrong(workload))) wrong.add(workload.id);
    looking = false;
    report(({ id }) => wrong.has(id), { retry: false });
  };
  const timer = setInterval(() => void look(), LOOK_MS);
  timer.unref();
  return () => {
    clearInterval(timer);
    stopListening?.();
  };
}
