/**
 * Creates, changes and deletes services, ingresses and workloads in random order beside a model that knows what each answer must
 * be. It talks to an agent only through the `invoke` that it is given, and compares nothing with the kernel.
 */
import { constant, constantFrom, integer, nat, oneof, record, sample, tuple, uniqueArray, type Arbitrary } from 'fast-check';
import { z } from 'zod';
import { ClawError, type ErrorCode } from '../../src/errors.ts';

export type Invoke = (command: string, params: unknown) => Promise<unknown>;

export interface ModelService extends z.infer<typeof serviceSpec> {
  readonly clusterIp: string;
}
export interface ModelWorkload {
  readonly id: string;
  readonly ip: string;
}

/** What must be there, by name. */
export interface Model {
  readonly services: Map<string, ModelService>;
  readonly ingresses: Map<string, string>;
  readonly workloads: Map<string, ModelWorkload>;
  /** When each virtual IP was given back, for those that were, in milliseconds of `performance.now()`. */
  readonly releasedMs: Map<string, number>;
  /** Answers that must not be. */
  readonly surprises: string[];
  readonly done: Record<string, number>;
}

export function emptyModel(): Model {
  return { services: new Map(), ingresses: new Map(), workloads: new Map(), releasedMs: new Map(), surprises: [], done: {} };
}

export interface ChurnSizes {
  readonly services: number;
  readonly ingresses: number;
  readonly workloads: number;
}

const serviceSpec = z.object({
  port: z.int(),
  protocol: z.enum(['tcp', 'udp']),
  selector: z.record(z.string(), z.string()).optional(),
  endpoints: z.array(z.object({ ip: z.string(), port: z.int() })).optional(),
});

type Operation =
  | { readonly kind: 'service'; readonly action: 'create' | 'update'; readonly slot: number; readonly spec: z.infer<typeof serviceSpec> }
  | { readonly kind: 'ingress'; readonly action: 'create' | 'update'; readonly slot: number; readonly service: number }
  | { readonly kind: 'service' | 'ingress'; readonly action: 'delete'; readonly slot: number }
  | { readonly kind: 'workload'; readonly action: 'run' | 'stop'; readonly slot: number };

/** The same seed gives the same operations. */
export function randomOperations(count: number, { sizes, seed }: { sizes: ChurnSizes; seed: number }): Operation[] {
  const slot = (limit: number): Arbitrary<number> => nat({ max: limit - 1 });
  const endpoint = record({ ip: tuple(nat({ max: 255 }), integer({ min: 1, max: 254 })).map(([c, d]) => `10.50.${c}.${d}`), port: integer({ min: 1, max: 65_535 }) });
  const endpoints = uniqueArray(endpoint, { maxLength: 6, selector: ({ ip, port }) => `${ip}:${port}` });
  const common = { port: integer({ min: 1, max: 65_535 }), protocol: constantFrom('tcp' as const, 'udp' as const) };
  const spec = oneof(
    { weight: 4, arbitrary: record({ ...common, endpoints }) },
    { weight: 1, arbitrary: record({ ...common, selector: slot(sizes.workloads).map((number) => ({ app: `w${number}` })) }) },
  );
  const [service, ingress, workload] = [constant('service' as const), constant('ingress' as const), constant('workload' as const)];
  const [create, update, remove] = [constant('create' as const), constant('update' as const), constant('delete' as const)];
  const operation = oneof(
    { weight: 40, arbitrary: record({ kind: service, action: create, slot: slot(sizes.services), spec }) },
    { weight: 20, arbitrary: record({ kind: service, action: update, slot: slot(sizes.services), spec }) },
    { weight: 28, arbitrary: record({ kind: service, action: remove, slot: slot(sizes.services) }) },
    { weight: 6, arbitrary: record({ kind: ingress, action: oneof(create, update), slot: slot(sizes.ingresses), service: slot(sizes.services) }) },
    { weight: 3, arbitrary: record({ kind: ingress, action: remove, slot: slot(sizes.ingresses) }) },
    { weight: 1, arbitrary: record({ kind: workload, action: constantFrom('run' as const, 'stop' as const), slot: slot(sizes.workloads) }) },
  );
  return sample(operation, { numRuns: count, seed });
}

const LANES = 4;

/** What concerns one object happens in its order; several objects change at the same time. */
export async function churn(operations: readonly Operation[], { invoke, model }: { invoke: Invoke; model: Model }): Promise<void> {
  const lanes = Map.groupBy(operations, ({ kind, slot }) => `${kind} ${slot % LANES}`);
  await Promise.all([...lanes.values()].map(async (lane) => {
    for (const operation of lane) await carryOut(operation, { invoke, model });
  }));
}

const enforced = z.looseObject({ enforced: z.literal(true) });
const created = enforced.extend({ clusterIp: z.string() });
const ran = enforced.extend({ id: z.string(), meshIp: z.string() });

async function carryOut(operation: Operation, { invoke, model }: { invoke: Invoke; model: Model }): Promise<void> {
  const { kind, action } = operation;
  const name = `${kind.charAt(0)}${operation.slot}`;
  const exists = model[`${kind === 'ingress' ? 'ingresse' : kind}s`].has(name);
  const expected = expectedError(operation, exists);
  const command = `${kind}.${action}`;
  const params = { name, ...paramsOf(operation, model) };
  let answer: unknown;
  try {
    answer = await invoke(command, params);
  } catch (error) {
    if (!(error instanceof ClawError) || error.code !== expected) model.surprises.push(`${command} ${JSON.stringify(params)}: ${String(error)}`);
    model.done['refused'] = (model.done['refused'] ?? 0) + 1;
    return;
  }
  model.done[command] = (model.done[command] ?? 0) + 1;
  if (expected !== undefined) model.surprises.push(`${command} ${name} had to be refused with ${expected}`);
  const parsed = enforced.safeParse(answer);
  if (!parsed.success) model.surprises.push(`${command} ${JSON.stringify(params)}: ${JSON.stringify(answer)}`);
  else keep(model, { operation, name, answer: parsed.data });
}

function expectedError({ kind, action }: Operation, exists: boolean): ErrorCode | undefined {
  const creates = action === 'create' || action === 'run';
  if (creates !== exists) return undefined;
  if (kind === 'service') return creates ? 'SERVICE_EXISTS' : 'SERVICE_NOT_FOUND';
  if (kind === 'ingress') return creates ? 'INGRESS_EXISTS' : 'INGRESS_NOT_FOUND';
  return creates ? 'WORKLOAD_EXISTS' : 'WORKLOAD_NOT_FOUND';
}

/** In an update `null` takes away what the service had before. */
function paramsOf(operation: Operation, model: Model): object {
  if (operation.action === 'delete' || operation.action === 'stop') return {};
  if (operation.kind === 'workload') return { labels: { app: `w${operation.slot}` }, command: ['sleep', 'infinity'] };
  if (operation.kind === 'ingress') return { rules: [{ host: `h${operation.slot}.example.com`, path: '/', service: `s${operation.service}` }] };
  const before = model.services.get(`s${operation.slot}`);
  const removed = { ...(before?.selector === undefined ? {} : { selector: null }), ...(before?.endpoints === undefined ? {} : { endpoints: null }) };
  return operation.action === 'create' ? operation.spec : { ...removed, ...operation.spec };
}

interface Told {
  readonly operation: Operation;
  readonly name: string;
  readonly answer: z.infer<typeof enforced>;
}

function keep(model: Model, { operation, name, answer }: Told): void {
  if (operation.action === 'delete' || operation.action === 'stop') {
    const clusterIp = model.services.get(name)?.clusterIp;
    if (operation.kind === 'service' && clusterIp !== undefined) model.releasedMs.set(clusterIp, performance.now());
    model[`${operation.kind === 'ingress' ? 'ingresse' : operation.kind}s`].delete(name);
  } else if (operation.kind === 'workload') {
    const { id, meshIp } = ran.parse(answer);
    model.workloads.set(name, { id, ip: meshIp });
  } else if (operation.kind === 'ingress') {
    model.ingresses.set(name, `s${operation.service}`);
  } else {
    const { clusterIp } = created.parse(answer);
    const before = model.services.get(name)?.clusterIp;
    const owner = [...model.services].find(([other, held]) => other !== name && held.clusterIp === clusterIp)?.[0];
    if (before !== undefined && before !== clusterIp) model.surprises.push(`${name} had ${before}, after an update ${clusterIp}`);
    if (owner !== undefined) model.surprises.push(`${clusterIp} belongs to ${owner} and was given to ${name}`);
    model.services.set(name, { ...operation.spec, clusterIp });
  }
}
