/** What a sandbox holds at one moment: as the agent answers, as its store has it, as the kernel has it, and which processes live. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { z } from 'zod';
import { connectAgent } from '../../src/surfaces/agent-client.ts';
import { isAgent, isHolder, isProxy, isRestore, listProcesses, supervisedDirectory, type Process } from './fixture-processes.ts';
import { dispatchedVips, readKernel, routedIps } from './fixture-rules.ts';

const lines = z.array(z.string());
const services = z.array(z.object({ name: z.string(), clusterIp: z.string() }));
const workloads = z.array(z.object({ name: z.string(), id: z.string(), ip: z.string() }));

export const held = z.object({
  answers: z.object({ services, workloads, inSync: z.boolean() }),
  store: z.object({ services, workloads, allocations: z.array(z.object({ ip: z.string(), owner: z.string() })) }),
  kernel: z.object({ vips: lines, workloadIps: lines, interfaces: lines, netns: lines }),
  processes: z.object({ agents: z.int(), restores: z.int(), proxies: z.int(), supervised: lines, strays: lines, directories: lines }),
});
export type Held = z.output<typeof held>;

export async function readHeld(socketPath: string, stateDir: string): Promise<Held> {
  const kernel = await readKernel();
  return {
    answers: await answersOf(socketPath),
    store: storeOf(join(stateDir, 'store.db')),
    kernel: { vips: dispatchedVips(kernel), workloadIps: routedIps(kernel), interfaces: [...kernel.interfaces], netns: [...kernel.netns] },
    processes: await processesOf(stateDir),
  };
}

async function answersOf(socketPath: string): Promise<Held['answers']> {
  const agent = connectAgent(socketPath);
  const ask = (command: string): Promise<unknown> => agent.invoke(command, { limit: 200 }, AbortSignal.timeout(10_000));
  const listed = z.object({ services: z.array(z.object({ name: z.string(), clusterIp: z.string() })) });
  const ran = z.object({ workloads: z.array(z.object({ name: z.string(), id: z.string(), meshIp: z.string() })) });
  const status = z.object({ kernel: z.object({ inSync: z.boolean() }) });
  return {
    services: listed.parse(await ask('service.list')).services,
    workloads: ran.parse(await ask('workload.list')).workloads.map(({ name, id, meshIp }) => ({ name, id, ip: meshIp })),
    inSync: status.parse(await agent.invoke('network.status', {}, AbortSignal.timeout(10_000))).kernel.inSync,
  };
}

/** Read from the file itself, because an agent's memory could hide what its store lost. */
function storeOf(path: string): Held['store'] {
  const db = new DatabaseSync(path, { readOnly: true });
  const rows = z.array(z.object({ key: z.string(), value: z.string() })).parse(db.prepare('SELECT key, value FROM items').all());
  db.close();
  const below = (prefix: string) => rows.flatMap(({ key, value }) => (key.startsWith(prefix) ? [{ key, value: z.looseObject({}).parse(JSON.parse(value)) }] : []));
  return {
    services: services.parse(below('services/').map(({ value }) => value)),
    workloads: workloads.parse(below('workloads/').map(({ value }) => value)),
    allocations: [...below('ipam/clusterip/'), ...below('ipam/workload/')].flatMap(({ key, value }) =>
      typeof value['owner'] === 'string' ? [{ ip: key.slice(key.lastIndexOf('/') + 1), owner: value['owner'] }] : [],
    ),
  };
}

async function processesOf(stateDir: string): Promise<Held['processes']> {
  const all = await listProcesses();
  const count = (which: (process: Process) => boolean): number => all.filter(which).length;
  const supervisors = all.filter(({ parent, argv }) => supervisedDirectory({ argv }) !== undefined && !isPartOfSupervisor(all, parent));
  return {
    agents: count(isAgent),
    restores: count(isRestore),
    proxies: count(isProxy),
    supervised: supervisors.map((process) => supervisedDirectory(process)?.slice(stateDir.length + 1) ?? '').toSorted(),
    strays: all.filter((process) => isStray(process)).map(({ argv }) => argv.join(' ')),
    directories: (await readdir(join(stateDir, 'workloads'))).map((id) => `workloads/${id}`).toSorted(),
  };
}

/** A supervisor's log writer is a second shell with the same arguments, and its child. */
function isPartOfSupervisor(all: readonly Process[], parent: number): boolean {
  return all.some((process) => process.pid === parent && supervisedDirectory(process) !== undefined);
}

/** What PID 1 has inherited or started, besides the agent, its own helper and what is supervised. */
function isStray(process: Process): boolean {
  if (process.parent !== 1 || isAgent(process) || isHolder(process) || supervisedDirectory(process) !== undefined) return false;
  return !(process.argv[1]?.endsWith('/init.sh') ?? false);
}
