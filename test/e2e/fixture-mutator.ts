/**
 * Changes services and workloads at random through the agent's socket and keeps the record of what was acknowledged. It
 * tries again only when the agent was not there or went away, as the hint of that error says a caller should.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { ClawError, type ErrorCode } from '../../src/errors.ts';
import { connectAgent } from '../../src/surfaces/agent-client.ts';
import { sampleOf } from './fixture-requests.ts';
import type { Random } from './fixture-random.ts';

export interface Ledger {
  /** Acknowledged and not deleted: what must be there, by name. */
  readonly services: Map<string, { clusterIp: string; port: number }>;
  readonly workloads: Map<string, { id: string; ip: string }>;
  /** Acknowledged deletions: what must be gone. */
  readonly deletedServices: { readonly name: string; readonly clusterIp: string }[];
  readonly stoppedWorkloads: { readonly name: string; readonly id: string; readonly ip: string }[];
  /** Every virtual IP and address in the order it was given out, with the time. */
  readonly given: { readonly ip: string; readonly owner: string; readonly atMs: number }[];
  readonly released: { readonly ip: string; readonly atMs: number }[];
  /** Answers and observations that must not be. */
  readonly surprises: string[];
  acknowledged: number;
  triedAgain: number;
  notEnforced: number;
  probed: number;
}

export function emptyLedger(): Ledger {
  return {
    services: new Map(),
    workloads: new Map(),
    deletedServices: [],
    stoppedWorkloads: [],
    given: [],
    released: [],
    surprises: [],
    acknowledged: 0,
    triedAgain: 0,
    notEnforced: 0,
    probed: 0,
  };
}

export interface MutatorOptions {
  readonly socketPath: string;
  readonly ledger: Ledger;
  readonly random: Random;
  /** Labels of workloads that always answer: services of the mutator select them, so each virtual IP can be tried at once. */
  readonly answering: Readonly<Record<string, string>>;
  readonly answeringPort: number;
  /** A workload appends its name to this file when it starts. */
  readonly startsFile: string;
}

const MOST_SERVICES = 12;
const MOST_WORKLOADS = 4;
const created = z.looseObject({ clusterIp: z.string(), port: z.int(), enforced: z.boolean().default(true) });
const ran = z.looseObject({ id: z.string(), meshIp: z.string(), enforced: z.boolean() });
const gone = z.looseObject({ enforced: z.boolean() });

/** Runs until the signal, then ends the change that is under way. */
export async function mutateServices(options: MutatorOptions, signal: AbortSignal): Promise<void> {
  const { ledger, random } = options;
  const call = caller(options);
  const selector = options.answering;
  for (let number = 1; !signal.aborted; number += 1) {
    const names = [...ledger.services.keys()];
    const name = random.pick(names);
    const dice = random.below(10);
    if (name === undefined || (dice < 5 && names.length < MOST_SERVICES)) {
      const port = 1000 + random.below(1000);
      await create(`s${number}`, port);
    } else if (dice < 7) {
      const port = 1000 + random.below(1000);
      const updated = await call(created, { command: 'service.update', params: { name, port } });
      const before = ledger.services.get(name);
      if (updated === 'settled' || before === undefined) continue;
      if (updated.clusterIp !== before.clusterIp) ledger.surprises.push(`${name} had ${before.clusterIp}, after an update ${updated.clusterIp}`);
      before.port = port;
      if (updated.enforced) await mustAnswer(name);
    } else {
      await remove(name);
    }
    await probe(random.pick([...ledger.services.keys()]));
  }

  async function create(name: string, port: number): Promise<void> {
    const params = { name, selector, port, targetPort: options.answeringPort };
    const answer = await call(created, { command: 'service.create', params, settledBy: 'SERVICE_EXISTS' });
    const known = answer === 'settled' ? await call(created, { command: 'service.get', params: { name } }) : answer;
    if (known === 'settled') return;
    ledger.services.set(name, { clusterIp: known.clusterIp, port: known.port });
    ledger.given.push({ ip: known.clusterIp, owner: `service ${name}`, atMs: performance.now() });
    if (known.enforced) await mustAnswer(name);
  }

  async function remove(name: string): Promise<void> {
    const service = ledger.services.get(name);
    if (service === undefined) return;
    const answer = await call(gone, { command: 'service.delete', params: { name }, settledBy: 'SERVICE_NOT_FOUND' });
    ledger.services.delete(name);
    ledger.deletedServices.push({ name, clusterIp: service.clusterIp });
    ledger.released.push({ ip: service.clusterIp, atMs: performance.now() });
    if (answer === 'settled' || !answer.enforced) return;
    const { who } = await sampleOf({ host: service.clusterIp, port: service.port });
    if (who !== undefined) ledger.surprises.push(`${name} was deleted and ${service.clusterIp} still answered`);
  }

  /** What was acknowledged as enforced answers from then on, whether an agent lives or not. */
  async function mustAnswer(name: string): Promise<void> {
    const service = ledger.services.get(name);
    if (service === undefined) return;
    ledger.probed += 1;
    const { failure } = await sampleOf({ host: service.clusterIp, port: service.port });
    if (failure !== undefined) ledger.surprises.push(`${name} was acknowledged and ${service.clusterIp}:${service.port} said ${failure}`);
  }

  async function probe(name: string | undefined): Promise<void> {
    if (name !== undefined) await mustAnswer(name);
  }
}

/** Runs until the signal, then ends the change that is under way. */
export async function mutateWorkloads(options: MutatorOptions, signal: AbortSignal): Promise<void> {
  const { ledger, random, startsFile } = options;
  const call = caller(options);
  for (let number = 1; !signal.aborted; number += 1) {
    const name = random.pick([...ledger.workloads.keys()]);
    if (name === undefined || (random.below(10) < 6 && ledger.workloads.size < MOST_WORKLOADS)) await start(`w${number}`);
    else await stop(name);
  }

  async function start(name: string): Promise<void> {
    const params = { name, labels: { app: 'churn' }, command: ['sh', '-c', STARTED, name, startsFile] };
    const answer = await call(ran, { command: 'workload.run', params, settledBy: 'WORKLOAD_EXISTS' });
    const known = answer === 'settled' ? await call(ran, { command: 'workload.get', params: { name } }) : answer;
    if (known === 'settled') return;
    ledger.workloads.set(name, { id: known.id, ip: known.meshIp });
    ledger.given.push({ ip: known.meshIp, owner: `workload ${name}`, atMs: performance.now() });
  }

  async function stop(name: string): Promise<void> {
    const workload = ledger.workloads.get(name);
    if (workload === undefined) return;
    await call(gone, { command: 'workload.stop', params: { name }, settledBy: 'WORKLOAD_NOT_FOUND' });
    ledger.workloads.delete(name);
    ledger.stoppedWorkloads.push({ name, ...workload });
    ledger.released.push({ ip: workload.ip, atMs: performance.now() });
  }
}

/** A workload that says so when it starts and then waits; it ends at once when it is told to. */
const STARTED = 'trap "exit 0" TERM; echo "$0" >>"$1"; while :; do sleep 1000 & wait $!; done';

interface Change {
  readonly command: string;
  readonly params: unknown;
  /** After an attempt that was not answered, this error says that the attempt was carried out. */
  readonly settledBy?: ErrorCode;
}

/** An error that nothing explains is a surprise and ends the run, for the record could not be kept after it. */
function caller({ socketPath, ledger }: MutatorOptions) {
  const agent = connectAgent(socketPath);
  return async <Answer extends { enforced: boolean }>(answer: z.ZodType<Answer>, { command, params, settledBy }: Change): Promise<Answer | 'settled'> => {
    for (let attempts = 1; ; attempts += 1) {
      try {
        const told = answer.parse(await agent.invoke(command, params, AbortSignal.timeout(60_000)));
        ledger.acknowledged += 1;
        if (!told.enforced) ledger.notEnforced += 1;
        return told;
      } catch (error) {
        if (error instanceof ClawError && error.code === 'AGENT_UNREACHABLE') {
          ledger.triedAgain += 1;
          await delay(20);
        } else if (error instanceof ClawError && error.code === settledBy && attempts > 1) {
          return 'settled';
        } else {
          ledger.surprises.push(`${command} ${JSON.stringify(params)}, attempt ${attempts}: ${String(error)}`);
          throw error;
        }
      }
    }
  };
}
