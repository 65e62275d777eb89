/** Workloads: their invariants and their store writes. Starting and stopping is the reconciler's work, this only waits for it. */
import { randomBytes } from 'node:crypto';
import type { AttachWorkload, RunWorkload, UpdateWorkload } from '../../tools/workload.ts';
import { ClawError } from '../errors.ts';
import type { ObservedWorkload } from '../model/observed.ts';
import { processProblem } from '../model/process-limits.ts';
import { recordKey, type Named } from '../model/record.ts';
import { workloadId, type Workload, type WorkloadPort, type WorkloadState } from '../model/workload.ts';
import { releaseAddress, takeAddress } from './allocations.ts';
import { page } from './paging.ts';
import { createRecord, deleteRecord, replaceRecord, requireRecord, requireRoom, together } from './records.ts';
import type { World } from './world.ts';

const MISSING = { code: 'WORKLOAD_NOT_FOUND', listWith: 'workload.list' } as const;

export function workloadManager(world: World) {
  const find = (input: Named): Workload => requireRecord(world.desired.workloads, recordKey('workloads', input), MISSING);

  return {
    run: async ({ image, command = [], ...input }: RunWorkload, signal: AbortSignal) => {
      const runtime = input.runtime ?? (image === undefined ? 'process' : 'docker');
      requirePorts(input.ports);
      requireFits({ command, env: input.env });
      requireFree(world, input);
      if (runtime === 'docker') await requireContainer(world, { image, signal });
      else requireProcess(world, { image, command });
      return await place(world, { ...input, runtime, command, ...(image === undefined ? {} : { image }) }, signal);
    },

    attach: async ({ netns, container, ...input }: AttachWorkload, signal: AbortSignal) => {
      if ((netns === undefined) === (container === undefined)) {
        throw new ClawError('INVALID_ARGUMENT', 'workload.attach takes either netns or container', { path: 'netns', hint: 'Give one of the two.' });
      }
      requirePorts(input.ports);
      requireFree(world, input);
      const target = container === undefined ? { netns: netns?.replace(/^\/var\/run\//, '/run/') ?? '' } : { container: await asked('container', () => world.outside.findContainer(container, signal)) };
      if (target.netns !== undefined) await world.outside.requireNamespace(target.netns, signal);
      return await place(world, { ...input, ...target, runtime: 'attached', command: [], env: {}, restart: 'no' }, signal);
    },

    update: async (input: UpdateWorkload) => {
      requirePorts(input.ports ?? []);
      const { answer, revision } = await world.mutate(() => {
        const old = find(input);
        const updated: Workload = {
          ...old,
          labels: input.labels === undefined ? old.labels : (input.labels ?? {}),
          ports: input.ports === undefined ? old.ports : (input.ports ?? []),
        };
        return { ...replaceRecord(world, recordKey('workloads', input), updated), answer: updated };
      });
      return { ...inForce(world, answer), revision };
    },

    stop: async (input: Named, signal: AbortSignal) => {
      const { runtime } = find(input);
      if (runtime === 'attached') throw wrongEnd(input, 'was attached and is not ours to stop', 'workload.detach takes its address back and leaves it running.');
      // Else the call would wait for ever, and the workload would be half stopped.
      if (runtime === 'docker') await world.outside.requireDocker(signal);
      return await remove(world, { find, input }, signal);
    },

    detach: async (input: Named, signal: AbortSignal) => {
      if (find(input).runtime !== 'attached') throw wrongEnd(input, 'was started here, not attached', 'workload.stop stops and removes it.');
      return await remove(world, { find, input }, signal);
    },

    get: async (input: Named) => inForce(world, find(input)),

    list: async (input: { limit: number; cursor?: string | undefined; namespace?: string | undefined }) => {
      const { items, ...paging } = page(world.desired.workloads, input);
      return { answer: { ...paging, workloads: items.map((workload) => shown(world, workload)) } };
    },

    logs: async (input: Named & { tail: number }, signal: AbortSignal) => {
      const workload = find(input);
      if (workload.runtime === 'attached') {
        throw new ClawError('NOT_SUPPORTED', `workload ${input.namespace}/${input.name} was attached: its output goes elsewhere`, { path: 'name', hint: 'Ask whoever started it, e.g. `docker logs`.' });
      }
      return { answer: { namespace: workload.namespace, name: workload.name, lines: await world.workloadLogs(workload, input.tail, signal) } };
    },
  };
}

type Placed = Pick<Workload, 'namespace' | 'name' | 'labels' | 'command' | 'env' | 'ports' | 'runtime' | 'restart' | 'image' | 'netns' | 'container'>;

/** Writes the record with an address of its own, and waits until it runs or could not be started. */
async function place(world: World, placed: Placed, signal: AbortSignal) {
  const { answer: started } = await world.mutate(() => {
    requireFree(world, placed);
    requireRoom(world.desired.workloads, 'workloads');
    const key = recordKey('workloads', placed);
    const taken = takeAddress(world, { kind: 'workload', node: world.node.id }, key);
    const workload: Workload = { v: 1, createdAt: world.now().toISOString(), ...placed, id: freeId(world), ip: taken.ip, node: world.node.id, stopping: false };
    return { ...together(createRecord(world, key, workload), taken), answer: workload };
  });
  await world.workloadStarted(started.id, signal);
  return inForce(world, started);
}

async function remove(world: World, { find, input }: { find: (input: Named) => Workload; input: Named }, signal: AbortSignal) {
  const { answer } = await world.mutate(() => {
    const workload = find(input);
    requireHere(world, workload);
    const stopping: Workload = { ...workload, stopping: true };
    return { ...replaceRecord(world, recordKey('workloads', input), stopping), answer: stopping };
  });
  const revision = await world.workloadRemoved(answer.id, signal);
  return { answer: { namespace: answer.namespace, name: answer.name, stopped: true as const, released: answer.ip }, revision };
}

function wrongEnd({ namespace, name }: Named, what: string, hint: string): ClawError {
  return new ClawError('INVALID_ARGUMENT', `workload ${namespace}/${name} ${what}`, { path: 'name', hint });
}

/**
 * The last act of a stop, for the reconciler: the record goes and its address is released, in one transaction, once
 * nothing of the workload is left in the kernel.
 */
export async function removeStopped(world: World, workload: Workload): Promise<number> {
  const { revision } = await world.mutate(() => {
    const key = recordKey('workloads', workload);
    const change = together(deleteRecord(world, key), releaseAddress(world, { kind: 'workload', node: workload.node }, workload.ip));
    return { ...change, answer: undefined };
  });
  return revision;
}

/** The workload with what its enforcement depends on: one that could not be started is not in force, whatever its rules are. */
function inForce(world: World, workload: Workload) {
  const answer = shown(world, workload);
  const failed = answer.state === 'failed' ? { notEnforced: `it does not run: ${answer.message ?? 'it could not be started'}` } : {};
  return { answer, revision: world.desired.revision, ...failed };
}

function requireHere(world: World, workload: Workload): void {
  if (workload.node === world.node.id) return;
  throw new ClawError('NOT_ALLOWED', `workload ${workload.namespace}/${workload.name} runs on node ${workload.node}, and this is ${world.node.id}`, {
    path: 'name',
    hint: `Ask the agent of ${workload.node}.`,
  });
}

/** What is observed of it, unless it is being stopped. */
export function stateOf(world: World, workload: Workload): WorkloadState {
  return workload.stopping ? 'stopping' : observedOf(world, workload).state;
}

function observedOf(world: World, workload: Workload): ObservedWorkload {
  return world.observed.workloads.get(workload.id) ?? { state: 'starting', restarts: 0 };
}

function shown(world: World, workload: Workload) {
  const observed = observedOf(world, workload);
  return {
    id: workload.id,
    namespace: workload.namespace,
    name: workload.name,
    labels: workload.labels,
    runtime: workload.runtime,
    state: stateOf(world, workload),
    ...(observed.exitCode === undefined ? {} : { exitCode: observed.exitCode }),
    ...(observed.message === undefined ? {} : { message: observed.message }),
    restarts: observed.restarts,
    meshIp: workload.ip,
    network: 'claw-mesh' as const,
    subnet: world.node.subnet,
    gateway: world.node.gateway,
    ports: workload.ports,
    node: workload.node,
    createdAt: workload.createdAt,
  };
}

function requireFree(world: World, input: Named): void {
  const existing = world.desired.workloads.get(recordKey('workloads', input));
  if (existing === undefined) return;
  throw new ClawError('WORKLOAD_EXISTS', `workload ${input.namespace}/${input.name} exists already${existing.stopping ? ' and is being stopped' : ''}`, {
    path: 'name',
    hint: `${existing.runtime === 'attached' ? 'workload.detach' : 'workload.stop'} removes it; workload.get shows its state.`,
  });
}

function requireProcess(world: World, { image, command }: { image: string | undefined; command: readonly string[] }): void {
  if (image !== undefined) throw new ClawError('INVALID_ARGUMENT', 'a process has no image', { path: 'image', hint: 'Leave out runtime, or the image.' });
  if (command.length === 0) throw new ClawError('INVALID_ARGUMENT', 'there is nothing to run', { path: 'command', hint: 'Give a command, or an image.' });
  if (world.processesAllowed) return;
  throw new ClawError('NOT_ALLOWED', 'workload.run may not start processes on this host', {
    path: 'runtime',
    hint: 'The operator allows it with workloads.process.enabled and a uid in the configuration; `clawnode sandbox` needs no such permission.',
  });
}

/** What no process can be given would else be stored, with an address of its own, and fail. */
function requireFits({ command, env }: Pick<Workload, 'command' | 'env'>): void {
  const problem = processProblem(command, env);
  if (problem === undefined) return;
  throw new ClawError('LIMIT_EXCEEDED', problem.message, { path: problem.path, hint: 'Let the command read what is long from a file.' });
}

/** Before anything is written: an image that does not exist leaves neither a record nor an address behind. */
async function requireContainer(world: World, { image, signal }: { image: string | undefined; signal: AbortSignal }): Promise<void> {
  await asked(image === undefined ? 'runtime' : 'image', () => world.outside.requireDocker(signal));
  if (image === undefined) throw new ClawError('INVALID_ARGUMENT', 'runtime docker needs an image', { path: 'image', hint: '`docker images` on the node shows those that it has.' });
  await world.outside.requireImage(image, signal);
}

/** A refusal of containers altogether names the argument that asked for one. */
async function asked<Answer>(path: string, act: () => Promise<Answer>): Promise<Answer> {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof ClawError) || error.path !== undefined) throw error;
    throw new ClawError(error.code, error.message, { path, ...(error.hint === undefined ? {} : { hint: error.hint }), cause: error });
  }
}

function requirePorts(ports: readonly WorkloadPort[]): void {
  const names = new Set<string>();
  const numbers = new Set<string>();
  for (const [index, { name, port, protocol }] of ports.entries()) {
    const number = `${port}/${protocol}`;
    if (numbers.has(number)) throw new ClawError('INVALID_ARGUMENT', `port ${number} stands there twice`, { path: `ports[${index}].port`, hint: 'Give each port once.' });
    numbers.add(number);
    if (name === undefined) continue;
    if (names.has(name)) {
      throw new ClawError('INVALID_ARGUMENT', `the port name ${name} stands there twice`, { path: `ports[${index}].name`, hint: 'Give each port a name of its own.' });
    }
    names.add(name);
  }
}

function freeId(world: World): string {
  const used = new Set([...world.desired.workloads.values()].map((workload) => workload.id));
  for (;;) {
    const id = workloadId.parse(randomBytes(4).toString('hex'));
    if (!used.has(id)) return id;
  }
}
