/** Answers what managers ask about containers and network namespaces before they write; it changes nothing. */
import type { NamespaceNames } from './drivers/namespace-name.ts';
import { ClawError } from './errors.ts';
import type { OutsideLookup } from './managers/world.ts';
import type { DockerRuntime } from './runtime/docker.ts';

export interface OutsideLookupOptions {
  readonly docker: DockerRuntime | undefined;
  readonly dockerRefusal: ClawError;
  readonly names: Pick<NamespaceNames, 'check'>;
}

/** Why this agent uses no containers, where it does not. */
export function refusalOfDocker(mode: 'host' | 'sandbox'): ClawError {
  return mode === 'sandbox'
    ? new ClawError('NOT_SUPPORTED', 'a sandbox has no containers: the Docker Engine runs outside of it', { hint: 'Give a command and runtime "process", or use an agent of the machine (`sudo clawnode up`).' })
    : new ClawError('NOT_ALLOWED', 'the configuration of this host does not allow containers (workloads.docker)', {
        hint: 'The operator allows them with `workloads: {docker: {enabled: true}}` in the configuration.',
      });
}

export function openOutsideLookup({ docker, dockerRefusal, names }: OutsideLookupOptions): OutsideLookup {
  const engine = (): DockerRuntime => {
    if (docker === undefined) throw dockerRefusal;
    return docker;
  };
  return {
    requireDocker: async (signal) => engine().ping(signal),
    requireImage: async (image, signal) => engine().requireImage(image, signal),
    findContainer: async (container, signal) => {
      const found = await engine().inspect(container, signal);
      if (found === undefined) throw new ClawError('INVALID_ARGUMENT', `there is no container ${container}`, { path: 'container', hint: '`docker ps` shows those that run.' });
      const { id, pid, networkMode } = found;
      if (networkMode === 'host') {
        throw new ClawError('NOT_ALLOWED', `container ${container} uses the machine's own network`, { path: 'container', hint: 'Run it with `--network none`, or with a network of its own.' });
      }
      if (pid === undefined) throw new ClawError('INVALID_ARGUMENT', `container ${container} does not run`, { path: 'container', hint: `\`docker start ${container}\` first.` });
      await names.check({ path: `/proc/${pid}/ns/net`, argument: 'container', called: `container ${container}` }, signal);
      return id;
    },
    requireNamespace: (path, signal) => names.check({ path, argument: 'netns', called: path }, signal),
  };
}
