/** Opens the parts of one node, in order, and closes them again; it has no logic of its own. */
import { mkdir } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Logger } from 'pino';
import { openAuditLog } from './audit.ts';
import { compileNodeNetwork } from './compile/links.ts';
import { readConfig, type Config } from './config.ts';
import { dispatch, type Door } from './dispatch.ts';
import { openFlows } from './flows/flows.ts';
import { openConntrack } from './drivers/conntrack.ts';
import { readConnections, readTcpConnections, readTranslatedUdp } from './drivers/conntrack-list.ts';
import { openIpset } from './drivers/ipset.ts';
import { openIptables } from './drivers/iptables.ts';
import { openLinks } from './drivers/link.ts';
import { openNamespaceNames } from './drivers/namespace-name.ts';
import { ownAddresses } from './drivers/own-addresses.ts';
import { openNodeNetwork } from './drivers/node-network.ts';
import { resetSockets } from './drivers/tcp-reset.ts';
import { readTranslated } from './drivers/translated.ts';
import { settleBackend } from './iptables-choice.ts';
import { openDesiredView } from './managers/desired-view.ts';
import { countFigures } from './managers/figures.ts';
import { createManagers } from './managers/managers.ts';
import { createMutate } from './managers/plans.ts';
import { removeStopped } from './managers/workloads.ts';
import type { World } from './managers/world.ts';
import { createMetrics } from './metrics.ts';
import { openNode } from './node-identity.ts';
import { openOutsideLookup, refusalOfDocker } from './outside-lookup.ts';
import { openChanges } from './observed/changes.ts';
import { createEndpointCache } from './observed/endpoint-cache.ts';
import { createObservedState } from './observed/observed-state.ts';
import { takeOver } from './reconcile/adoption.ts';
import { openDriftLog } from './reconcile/drift-log.ts';
import { watchDrift } from './reconcile/drift.ts';
import { openDrains } from './reconcile/drains.ts';
import { openHealth } from './reconcile/health.ts';
import { openJoined } from './reconcile/joined.ts';
import { startLoop } from './reconcile/loop.ts';
import type { PassResult } from './reconcile/passes.ts';
import { tightener } from './reconcile/tighten.ts';
import { startWorkloadController } from './reconcile/workloads.ts';
import { openConfinedProxy } from './runtime/confined-proxy.ts';
import { openDockerRuntime } from './runtime/docker.ts';
import { rememberDocker } from './runtime/docker-cleanup.ts';
import { isListening, tryConnection } from './runtime/probe.ts';
import { openProcessRuntime } from './runtime/process.ts';
import { KERNEL_LOCK_DIRECTORY, takeKernel, takeStateDirectory } from './state-directory.ts';
import { openSqliteStore } from './store/sqlite.ts';
import { groupId, openAgentSocket, refuseTakenSocket } from './surfaces/agent-socket.ts';
import { openMetricsHttp, type MetricsHttp } from './surfaces/metrics-http.ts';
import { createPeerLookup } from './surfaces/peer.ts';
import { createThrottle } from './throttle.ts';
import { version } from './version.ts';

export interface AgentOptions {
  readonly mode: 'host' | 'sandbox';
  /** Belongs to this agent alone. */
  readonly stateDir: string;
  readonly socketPath: string;
  /** The host's name unless told here or in the configuration. */
  readonly nodeId?: string;
  readonly configFile?: string;
  /** A unix socket on which the ingress proxy listens too, for whoever publishes it outside a sandbox, and where that is. */
  readonly publishSocket?: string;
  readonly publishedUrl?: string;
  readonly logger: Logger;
}

export interface Agent {
  /** Takes no more calls, lets running ones end, and lets go: services, workloads and ingress stay up. */
  close(): Promise<void>;
}

/** Resolves when every service of the store is programmed and calls are taken. What it opened is closed again when it throws. */
export async function openAgent(options: AgentOptions, signal: AbortSignal): Promise<Agent> {
  const opened = new AsyncDisposableStack();
  try {
    await openParts(options, opened, signal);
    return { close: () => opened.disposeAsync() };
  } catch (error) {
    await opened.disposeAsync();
    throw error;
  }
}

/** On a host processes run under a uid of their own or not at all, also those that an earlier configuration allowed. */
function hostRights({ enabled, uid }: Config['workloads']['process']): { uid: number } | { startRefusal: string } {
  return enabled && uid !== undefined ? { uid } : { startRefusal: 'the configuration of this host does not allow processes (workloads.process)' };
}

async function openParts(options: AgentOptions, opened: AsyncDisposableStack, signal: AbortSignal): Promise<void> {
  const { mode, logger } = options;
  const socketPath = resolve(options.socketPath);
  const statePath = resolve(options.stateDir);
  const config = await readConfig(options.configFile);
  const stateDir = await takeStateDirectory(statePath);
  opened.defer(() => stateDir.release());
  // Whatever could keep this agent from running is found before it touches what another one has programmed.
  const kernel = await takeKernel();
  opened.defer(() => kernel.release());
  await refuseTakenSocket(socketPath);
  const backend = await settleBackend({ configured: config.iptablesBackend, sandbox: mode === 'sandbox' }, { logger, signal });

  const store = await openSqliteStore(stateDir.store);
  opened.defer(() => store.close());
  const view = await openDesiredView(store, logger);
  opened.defer(() => view.close());
  const isInUse = view.state.services.size + view.state.workloads.size > 0;
  const node = await openNode({ config, backend, nodeId: options.nodeId, file: stateDir.identity, isInUse }, signal);
  const observed = createObservedState();
  const endpoints = createEndpointCache(view.state, observed.state);
  const changes = openChanges({ view, observed, endpointsOf: endpoints.endpointsOf });
  opened.defer(() => changes.close());

  const driftLog = openDriftLog(logger);
  const onRepaired = (words: readonly string[]): void => {
    driftLog.repaired(words);
    changes.nodeChanged();
  };
  const metrics = createMetrics({ id: node.id, mode, version: version() });
  const iptables = openIptables({ backend, onRepaired, observer: metrics.restoreObserver });
  opened.defer(() => iptables.close());
  const conntrack = openConntrack();
  const links = openLinks();
  const drivers = { nodeNetwork: openNodeNetwork(), ipset: openIpset({ onRepaired }), iptables, conntrack };

  const socketDir = dirname(socketPath);
  await mkdir(socketDir, { recursive: true, mode: 0o755 });
  const hidden = [statePath, socketDir, KERNEL_LOCK_DIRECTORY];
  const runtime = await openProcessRuntime({
    directory: stateDir.workloads,
    hide: hidden,
    ...(mode === 'host' ? hostRights(config.workloads.process) : {}),
  });
  opened.defer(() => runtime.close());
  const docker = mode === 'host' && config.workloads.docker.enabled ? openDockerRuntime({ socketPath: config.workloads.docker.socket, node: node.id }) : undefined;
  opened.defer(() => docker?.close());
  if (docker !== undefined) await rememberDocker(stateDir.docker, { socketPath: config.workloads.docker.socket, node: node.id });
  const dockerRefusal = refusalOfDocker(mode);
  const names = openNamespaceNames();
  const joined = openJoined({ docker, dockerRefusal, links, names });
  const proxy = await openConfinedProxy({
    directory: stateDir.proxy,
    socketDir: join(socketDir, 'proxy'),
    hidden,
    port: config.ingress.port,
    publishSocket: options.publishSocket,
    publishedUrl: options.publishedUrl,
    version: version(),
    forbiddenRanges: [node.ranges.clusterIp],
    uid: mode === 'host' ? config.ingress.uid : undefined,
    onLost: () => loop.feedAgain(),
    logger,
  });
  opened.defer(() => proxy.close());

  const inheritedUdpFlows = await takeOver({ node, desired: view.state, links, runtime, joined, docker, observed, readTranslatedUdp, logger }, signal);
  // Before the loop, which compiles with what it knows.
  const health = await openHealth({ view, observed, endpointsOf: endpoints.endpointsOf, readTranslated: (until) => readTranslated(backend, until), logger }, signal);
  opened.defer(() => health.close());
  const drains = await openDrains(
    { node, view, endpointsOf: endpoints.endpointsOf, readConnections: readTcpConnections, resetSockets, conntrack, logger },
    signal,
  );
  opened.defer(() => drains.close());
  const failed = new Map<string, boolean>();
  const onPass = (pass: PassResult): void => {
    metrics.onPass(pass);
    if (failed.get(pass.name) !== pass.failed) changes.nodeChanged();
    failed.set(pass.name, pass.failed);
  };
  const loop = startLoop({ node, view, observed, endpoints, drivers, drains, feedRoutes: (routes, until) => proxy.feed(routes, until), inheritedUdpFlows, tighten: tightener({ readConnections, conntrack, isLocal: ownAddresses, logger }), onPass, logger });
  opened.defer(() => loop.close());

  const flows = await openFlows({
    directory: stateDir.flows,
    uid: mode === 'host' ? config.flows.uid : undefined,
    desired: view.state,
    clusterIpRange: node.ranges.clusterIp,
    programmed: (until) => loop.programmed(view.state.revision, until),
    logger,
  });
  opened.defer(() => flows.close());

  let metricsHttp: MetricsHttp | undefined;
  const world: World = {
    node,
    mode,
    version: version(),
    desired: view.state,
    observed: observed.state,
    endpointsOf: endpoints.endpointsOf,
    processesAllowed: mode === 'sandbox' || config.workloads.process.enabled,
    tryConnection,
    isListening,
    isOwnAddress: (ip) => ownAddresses()(ip),
    allocations: (range) => view.allocations(range),
    modRevision: (key) => view.modRevision(key),
    now: () => new Date(),
    mutate: createMutate(store, view),
    workloadStarted: (id, until) => workloads.started(id, until),
    workloadRemoved: (id, until) => workloads.removed(id, until),
    whyUnhealthy: (service, endpoint) => health.whyUnhealthy(service, endpoint),
    workloadLogs: async (workload, tail, until) => {
      if (workload.runtime === 'process') return await runtime.logs(workload.id, tail);
      if (docker === undefined) throw dockerRefusal;
      return await docker.logs(workload, tail, until);
    },
    outside: openOutsideLookup({ docker, dockerRefusal, names }),
    health: () => {
      const { revision, failure, durationMs } = loop.kernelStatus();
      const lastPassMs = durationMs === undefined ? {} : { lastPassMs: Math.round(durationMs * 10) / 10 };
      return {
        kernel: { inSync: failure === undefined, backend, revision, ...lastPassMs, ...(failure === undefined ? {} : { reason: failure }) },
        drift: driftLog.status(),
        ingress: proxy.status(),
        metrics: metricsHttp?.status ?? {},
        audit: flows.status(),
        storeDriver: 'sqlite',
      };
    },
    flows: (query) => flows.query(query),
    conntrack: () => conntrack.size(),
  };
  const workloads = startWorkloadController({
    node,
    view,
    observed,
    runtime,
    joined,
    docker,
    links,
    conntrack,
    drains,
    loop,
    removeStopped: (workload) => removeStopped(world, workload),
    logger,
  });
  opened.defer(() => workloads.close());

  const auditLog = openAuditLog(stateDir.auditLog, logger);
  opened.defer(() => auditLog.close());
  const audit: Door['audit'] = {
    write: (entry) => {
      metrics.onCall(entry);
      auditLog.write(entry);
    },
  };
  const throttle = createThrottle(config.limits);
  const door: Door = {
    managers: createManagers(world),
    logger,
    audit,
    admitChange: () => throttle.change(),
    programmed: (revision, until) => loop.programmed(revision, until),
    isProgrammed: (revision) => loop.isProgrammed(revision),
    served: (revision, until, withinMs) => loop.served(revision, until, withinMs),
    isServed: (revision) => loop.isServed(revision),
  };
  const { enforced, reason } = await loop.programmed(view.state.revision, signal);
  if (!enforced) logger.error({ reason }, 'the kernel could not be programmed; the agent goes on trying');
  const drift = watchDrift({
    backend,
    iptables,
    ipset: drivers.ipset,
    nodeNetwork: drivers.nodeNetwork,
    desired: () => ({ nodeNetwork: compileNodeNetwork(node), links: workloads.settledLinks() }),
    ensureLink: (link, until) => workloads.repairLink(link, until),
    resync: () => {
      loop.resync();
      return loop.programmed(view.state.revision, signal);
    },
    log: driftLog,
    logger,
  });
  opened.defer(() => drift.close());
  const readMetrics = async (): Promise<string> =>
    metrics.text({ health: world.health(), figures: countFigures(world), conntrack: await world.conntrack(), storeRevision: view.state.revision });
  const { enabled: metricsEnabled, port: metricsPort } = config.metrics;
  if (metricsEnabled) metricsHttp = await openMetricsHttp({ port: metricsPort, contentType: metrics.contentType, text: readMetrics, logger });
  opened.defer(() => metricsHttp?.close());
  const socket = await openAgentSocket({
    path: socketPath,
    gid: mode === 'host' ? await groupId(config.socketGroup) : undefined,
    peerOf: createPeerLookup(),
    health: () => ({ node: node.id, mode, version: version(), pid: process.pid, ready: true }),
    changes: (until) => changes.follow(until),
    admit: (what) => throttle.enter(what),
    onRefused: ({ surface, peer, error }) => audit.write({ command: 'none', params: undefined, caller: { surface, peer }, durationMs: 0, error }),
    invoke: ({ command, params, limits, surface, peer }, until) => dispatch(door, { command, params, limits, caller: { surface, peer } }, until),
  });
  opened.defer(() => socket.close());
  logger.info({ node: node.id, mode, subnet: node.subnet, revision: view.state.revision }, 'the agent is ready');
}
