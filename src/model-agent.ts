/** Opens a node that programs no kernel and starts no workload, for rehearsal anywhere: same door, managers and store, and no driver. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { openAuditLog } from './audit.ts';
import { readConfig, type Config } from './config.ts';
import { dispatch, type Call, type Door } from './dispatch.ts';
import { ClawError } from './errors.ts';
import { openDesiredView } from './managers/desired-view.ts';
import { createManagers } from './managers/managers.ts';
import { createMutate } from './managers/plans.ts';
import { removeStopped } from './managers/workloads.ts';
import type { World } from './managers/world.ts';
import type { Node } from './model/node.ts';
import { nodeName, nodePlace, refuseOverlap } from './node-plan.ts';
import { openChanges, type Change, type Changes } from './observed/changes.ts';
import { createEndpointCache } from './observed/endpoint-cache.ts';
import { createObservedState } from './observed/observed-state.ts';
import { takeStateDirectory } from './state-directory.ts';
import { openSqliteStore } from './store/sqlite.ts';
import { createThrottle } from './throttle.ts';
import { version } from './version.ts';

/** Why nothing is enforced, in every answer that says whether it is. */
export const MODEL_REASON = 'model mode: no kernel is programmed and no workload is started';

/** An Ethernet's 1500 bytes less 80 for WireGuard: there is no underlay to ask. */
const MTU = 1420;

export interface ModelAgentOptions {
  readonly nodeId?: string;
  readonly configFile?: string;
  readonly logger: Logger;
}

export interface ModelAgent {
  readonly node: string;
  /** The command's answer, by the same door as everywhere. */
  invoke(call: Call, signal: AbortSignal): Promise<Record<string, unknown>>;
  /** Which objects have changed, as `GET /v1/changes` of another agent tells. */
  changes(signal: AbortSignal): AsyncIterable<Change>;
  /** Forgets everything. */
  close(): Promise<void>;
}

/** Its state lives in a temporary directory of its own and ends with it. What it opened is closed again when it throws. */
export async function openModelAgent(options: ModelAgentOptions): Promise<ModelAgent> {
  const opened = new AsyncDisposableStack();
  try {
    const { node, door, changes } = await openParts(options, opened);
    return { node: node.id, invoke: (call, signal) => dispatch(door, call, signal), changes: (signal) => changes.follow(signal), close: () => opened.disposeAsync() };
  } catch (error) {
    await opened.disposeAsync();
    throw error;
  }
}

async function openParts({ nodeId, configFile, logger }: ModelAgentOptions, opened: AsyncDisposableStack): Promise<{ node: Node; door: Door; changes: Changes }> {
  const config = await readConfig(configFile);
  const node = modelNode(config, nodeId);
  const directory = await mkdtemp(join(tmpdir(), 'clawnode-model-'));
  opened.defer(() => rm(directory, { recursive: true, force: true }));
  const stateDir = await takeStateDirectory(directory);
  opened.defer(() => stateDir.release());
  const store = await openSqliteStore(stateDir.store);
  opened.defer(() => store.close());
  const view = await openDesiredView(store, logger);
  opened.defer(() => view.close());
  const observed = createObservedState();
  const { endpointsOf } = createEndpointCache(view.state, observed.state);
  const changes = openChanges({ view, observed, endpointsOf });
  opened.defer(() => changes.close());

  /** By workload id: what two callers stop at once is removed once, for by then another one may have its name. */
  const removals = new Map<string, Promise<number>>();
  const remove = async (id: string): Promise<number> => {
    const workload = [...view.state.workloads.values()].find((candidate) => candidate.id === id);
    if (workload === undefined) return view.state.revision;
    const revision = await removeStopped(world, workload);
    observed.forget(id);
    return revision;
  };

  const world: World = {
    node,
    mode: 'model',
    version: version(),
    desired: view.state,
    observed: observed.state,
    // An explicit endpoint that nobody checks is taken for healthy elsewhere, but here none gets any traffic.
    endpointsOf: (service) => endpointsOf(service).map((endpoint) => ({ ...endpoint, healthy: false })),
    whyUnhealthy: () => MODEL_REASON,
    processesAllowed: true,
    isListening: async () => false,
    tryConnection: async () => ({ code: 'SILENT', latencyMs: 0 }),
    isOwnAddress: (ip) => ip === node.gateway,
    allocations: (range) => view.allocations(range),
    modRevision: (key) => view.modRevision(key),
    now: () => new Date(),
    mutate: createMutate(store, view),
    // It stays "starting" for good: its services list it as an endpoint, and never as a healthy one.
    workloadStarted: async (id) => observed.set(id, { state: 'starting', restarts: 0, message: MODEL_REASON }),
    workloadRemoved: (id) => {
      const removal = removals.get(id) ?? remove(id).finally(() => removals.delete(id));
      removals.set(id, removal);
      return removal;
    },
    workloadLogs: async () => [],
    conntrack: async () => undefined,
    flows: () => ({ flows: [], count: 0 }),
    // An image can be rehearsed, for nothing is started; what is to be attached would have to exist.
    outside: { requireDocker: async () => undefined, requireImage: async () => undefined, findContainer: nothingToAttach, requireNamespace: nothingToAttach },
    health: () => ({
      kernel: { inSync: false, backend: 'none', revision: 0, reason: MODEL_REASON },
      drift: { repairs: 0 },
      ingress: { port: config.ingress.port, running: false, reason: MODEL_REASON },
      metrics: {},
      audit: { works: false, reason: MODEL_REASON, starting: false, denied: 0, audited: 0, dropped: 0 },
      storeDriver: 'sqlite',
    }),
  };
  const audit = openAuditLog(stateDir.auditLog, logger);
  opened.defer(() => audit.close());
  const notEnforced = { enforced: false, reason: MODEL_REASON };
  const throttle = createThrottle(config.limits);
  const door: Door = {
    managers: createManagers(world),
    logger,
    audit,
    admitChange: () => throttle.change(),
    programmed: async () => notEnforced,
    isProgrammed: () => notEnforced,
    served: async () => notEnforced,
    isServed: () => notEnforced,
  };
  return { node, door, changes };
}

async function nothingToAttach(): Promise<never> {
  throw new ClawError('NOT_SUPPORTED', 'the model has no container and no network namespace to attach', { hint: 'Rehearse it with workload.run.' });
}

function modelNode(config: Config, nodeId: string | undefined): Node {
  const { ranges, nodeNumber: number, exposeTo } = config;
  refuseOverlap(ranges, []);
  return { id: nodeName(nodeId, config.nodeId), number, ranges, ...nodePlace(ranges, number), mtu: MTU, exposeTo, dropForeignForwarding: false };
}
