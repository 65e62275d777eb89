/** Gives containers and attached network namespaces their link, again whenever they come back, and takes it from those that are gone. It starts containers of ours, and decides nothing else. */
import type { WorkloadLink } from '../compile/kernel-state.ts';
import { netnsOf } from '../compile/links.ts';
import type { LinkDriver } from '../drivers/link.ts';
import type { NamespaceNames } from '../drivers/namespace-name.ts';
import { ClawError } from '../errors.ts';
import type { ObservedWorkload } from '../model/observed.ts';
import type { Workload } from '../model/workload.ts';
import { containerName, type DockerRuntime, type DockerSpec } from '../runtime/docker.ts';
import type { Container } from '../runtime/docker-engine.ts';

export interface JoinedOptions {
  /** Undefined where Docker is not used: what needs it then fails with `dockerRefusal`. */
  readonly docker: DockerRuntime | undefined;
  readonly dockerRefusal: ClawError;
  readonly links: Pick<LinkDriver, 'ensure' | 'remove'>;
  readonly names: NamespaceNames;
}

export interface Joined {
  /** Brings it up as far as that is ours to do, and resolves with how it is: `running` only with a link in its network. */
  ensure(workload: Workload, link: WorkloadLink, signal: AbortSignal): Promise<ObservedWorkload>;
  /** Whether the network that was linked last is still the workload's; needs no Engine. */
  isStill(workload: Workload): Promise<boolean>;
  /** Whether the network namespace that it is to be attached to is not there; false for containers. */
  isAbsent(workload: Workload): Promise<boolean>;
  /** At agent start: those that run with the link which an earlier agent gave them. It changes nothing. */
  findLinked(workloads: Iterable<Workload>, signal: AbortSignal): Promise<ReadonlyMap<string, ObservedWorkload>>;
  /** Ends the container if it is ours. */
  stop(workload: Workload, options: { graceMs: number }, signal: AbortSignal): Promise<void>;
}

export function openJoined({ docker, dockerRefusal, links, names }: JoinedOptions): Joined {
  /** By workload id: /proc/PID/ns/net of its container when it was linked. */
  const linkedPaths = new Map<string, string>();
  const engine = (): DockerRuntime => {
    if (docker === undefined) throw dockerRefusal;
    return docker;
  };

  const join = async (link: WorkloadLink, source: { path: string; isStill?: () => Promise<boolean> }, signal: AbortSignal): Promise<void> => {
    if (!(await names.isSame(link.netns, source.path))) {
      await links.remove(link, signal);
      await names.give(link.netns, source, signal);
    }
    await links.ensure(link, signal);
    linkedPaths.set(link.id, source.path);
  };

  const ensureContainer = async ({ container, link, restart }: { container: Container; link: WorkloadLink; restart: Workload['restart'] }, signal: AbortSignal): Promise<ObservedWorkload> => {
    const { id, pid, restarts, exitCode } = container;
    if (pid === undefined) {
      await forget(link, signal);
      const returns = container.state === 'restarting' || restart === 'always';
      return { state: returns ? 'restarting' : 'exited', restarts, exitCode };
    }
    const isStill = async (): Promise<boolean> => (await engine().inspect(id, signal))?.pid === pid;
    await join(link, { path: `/proc/${pid}/ns/net`, isStill }, signal);
    return { state: 'running', restarts };
  };

  const forget = async (link: WorkloadLink, signal: AbortSignal): Promise<void> => {
    await links.remove(link, signal);
    linkedPaths.delete(link.id);
  };

  return {
    ensure: async (workload, link, signal) => {
      if (workload.runtime === 'docker') {
        const container = await engine().start(dockerSpec(workload), signal);
        return await ensureContainer({ container, link, restart: workload.restart }, signal);
      }
      if (workload.container !== undefined) {
        const container = await engine().inspect(workload.container, signal);
        if (container !== undefined) return await ensureContainer({ container, link, restart: 'no' }, signal);
        await forget(link, signal);
        return { state: 'exited', restarts: 0, message: 'its container was removed' };
      }
      const path = workload.netns ?? '';
      try {
        await join(link, { path }, signal);
        return { state: 'running', restarts: 0 };
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof ClawError && error.code === 'INVALID_ARGUMENT')) throw error;
        await forget(link, signal);
        return { state: 'exited', restarts: 0, message: `there is no network namespace ${path}` };
      }
    },
    isStill: async ({ id, netns }) => {
      const path = netns ?? linkedPaths.get(id);
      return path !== undefined && (await names.isSame(netnsOf(id), path));
    },
    isAbsent: async ({ netns }) => netns !== undefined && !(await names.exists(netns)),
    findLinked: async (workloads, signal) => {
      const found = new Map<string, ObservedWorkload>();
      for (const { id, runtime, netns, container, namespace, name } of workloads) {
        if (runtime === 'process') continue;
        const held = netns === undefined ? await docker?.inspect(container ?? containerName({ namespace, name }), signal) : undefined;
        const path = netns ?? (held?.pid === undefined ? undefined : `/proc/${held.pid}/ns/net`);
        if (path === undefined || !(await names.isSame(netnsOf(id), path))) continue;
        linkedPaths.set(id, path);
        found.set(id, { state: 'running', restarts: held?.restarts ?? 0 });
      }
      return found;
    },
    stop: async (workload, options, signal) => {
      if (workload.runtime === 'docker') await engine().stop(workload, options, signal);
      linkedPaths.delete(workload.id);
    },
  };
}

function dockerSpec({ id, namespace, name, image = '', command, env, restart }: Workload): DockerSpec {
  return { id, namespace, name, image, command, env, restart };
}
