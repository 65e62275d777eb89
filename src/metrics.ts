/** What Prometheus is told of this node: names, help texts, and when each figure is taken. It serves nothing and decides nothing. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { findTool } from '../tools/index.ts';
import type { AuditEntry } from './audit.ts';
import type { RestoreObserver } from './drivers/iptables-restore.ts';
import type { Figures } from './managers/figures.ts';
import type { Mode, NodeHealth } from './managers/world.ts';
import type { ConntrackSize } from './model/conntrack.ts';
import type { PassResult } from './reconcile/passes.ts';

/** How the node is at the time of a scrape. */
export interface MetricsFacts {
  readonly health: NodeHealth;
  readonly figures: Figures;
  readonly conntrack: ConntrackSize | undefined;
  readonly storeRevision: number;
}

export interface Metrics {
  readonly contentType: string;
  onPass(pass: PassResult): void;
  readonly restoreObserver: RestoreObserver;
  onCall(call: Pick<AuditEntry, 'command' | 'effect' | 'durationMs' | 'enforced' | 'error'>): void;
  /** All metrics in Prometheus' text format. */
  text(facts: MetricsFacts): Promise<string>;
}

/** From a single rule, a few milliseconds, to ten thousand services on a busy machine. */
const PROGRAMMING_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** Labels come from closed lists only (commands, codes, states, pools): a caller can not make new series. */
export function createMetrics(node: { readonly id: string; readonly mode: Mode; readonly version: string }): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const counter = <Label extends string>(name: string, help: string, labelNames: readonly Label[] = []) => new Counter({ name, help, labelNames, registers });
  const histogram = <Label extends string>(name: string, help: string, labelNames: readonly Label[] = []) =>
    new Histogram({ name, help, labelNames, buckets: PROGRAMMING_BUCKETS, registers });

  const passes = histogram('clawnode_programming_duration_seconds', 'How long a pass took that brings the target (kernel, ingress_proxy) in line with the store; failed passes count too', ['target']);
  const failedPasses = counter('clawnode_programming_failures_total', 'Passes that failed; each is tried again', ['target']);
  const programmed = histogram('clawnode_change_programmed_seconds', 'From a command that changes something to its being in force', ['command']);
  const calls = counter('clawnode_calls_total', 'Commands by result: ok, or the code of the error', ['command', 'result']);
  const restores = counter('clawnode_restores_total', 'Payloads written to iptables-restore, failed ones too');
  const commits = histogram('clawnode_restore_duration_seconds', 'How long iptables-restore took to commit a payload');
  const failedCommits = counter('clawnode_restore_failures_total', 'Payloads that iptables-restore did not commit');
  const starts = counter('clawnode_restore_process_starts_total', 'Starts of the long-lived iptables-restore; more than one means that it ended');
  new Gauge({ name: 'clawnode_info', help: 'Always 1; its labels say which agent this is', labelNames: ['version', 'mode', 'node'], registers }).set({ version: node.version, mode: node.mode, node: node.id }, 1);
  const record = createStateMetrics(registers);
  for (const target of ['kernel', 'ingress_proxy']) failedPasses.inc({ target }, 0);

  return {
    contentType: registry.contentType,
    onPass: ({ name, durationMs, failed }) => {
      const target = name.replace(' ', '_');
      passes.observe({ target }, durationMs / 1000);
      if (failed) failedPasses.inc({ target });
    },
    restoreObserver: {
      onStart: () => starts.inc(),
      onCommit: ({ durationMs, failed }) => {
        restores.inc();
        commits.observe(durationMs / 1000);
        if (failed) failedCommits.inc();
      },
    },
    onCall: ({ command, effect, durationMs, enforced, error }) => {
      const known = findTool(command)?.command ?? 'unknown';
      calls.inc({ command: known, result: error?.code ?? 'ok' });
      if (enforced === true && effect !== 'read') programmed.observe({ command: known }, durationMs / 1000);
    },
    text: async (facts) => {
      record(facts);
      return await registry.metrics();
    },
  };
}

/** Metrics that are read from the node's state at each scrape. */
function createStateMetrics(registers: Registry[]): (facts: MetricsFacts) => void {
  const gauge = <Label extends string>(name: string, help: string, labelNames: readonly Label[] = []) => new Gauge({ name, help, labelNames, registers });
  const repairs = new Counter({ name: 'clawnode_drift_repairs_total', help: 'Times that something others had changed in the kernel was repaired', registers });
  const services = gauge('clawnode_services', 'Services');
  const ingresses = gauge('clawnode_ingresses', 'Ingresses');
  const namespaces = gauge('clawnode_namespaces', 'Namespaces');
  const workloads = gauge('clawnode_workloads', 'Workloads by state', ['state']);
  const endpoints = gauge('clawnode_endpoints', 'Endpoints of all services by health', ['health']);
  const addresses = gauge('clawnode_allocator_addresses', 'Addresses of each pool: used, free, or resting after their release (quarantined)', ['pool', 'state']);
  const storeRevision = gauge('clawnode_store_revision', 'Newest revision of the store');
  const kernelRevision = gauge('clawnode_kernel_revision', 'Revision of the store that the kernel holds');
  const inSync = gauge('clawnode_kernel_in_sync', '1 when the last pass over the kernel succeeded, else 0');
  const proxyRunning = gauge('clawnode_ingress_proxy_running', '1 while the ingress proxy serves, else 0');
  const tracked = gauge('clawnode_conntrack_entries', 'Connections that the kernel tracks for this node');
  const trackable = gauge('clawnode_conntrack_entries_max', 'Connections that the kernel can track; beyond them new ones are dropped');
  const flows = new Counter({ name: 'clawnode_flows_total', help: 'Connections that policies denied, or in audit mode would have denied, as the kernel told them', labelNames: ['verdict'], registers });
  const lostFlows = new Counter({ name: 'clawnode_flow_events_lost_total', help: 'Such connections that the kernel could not tell', registers });
  const auditWorks = gauge('clawnode_audit_works', '1 while a self-test proves that such connections are told, else 0');
  const cpu = new Counter({ name: 'process_cpu_seconds_total', help: 'CPU time of the agent', registers });
  const memory = gauge('process_resident_memory_bytes', 'Memory of the agent');
  gauge('process_start_time_seconds', 'When the agent was started, in seconds since 1970').set(performance.timeOrigin / 1000);

  return ({ health, figures, conntrack, storeRevision: revision }) => {
    setCounter(repairs, health.drift.repairs);
    services.set(figures.services);
    ingresses.set(figures.ingresses);
    namespaces.set(figures.namespaces);
    for (const [state, count] of Object.entries(figures.workloads)) workloads.set({ state }, count);
    for (const [healthOf, count] of Object.entries(figures.endpoints)) endpoints.set({ health: healthOf }, count);
    for (const [pool, stats] of [['cluster_ip', figures.pools.clusterIps], ['workload_ip', figures.pools.workloadIps]] as const) {
      for (const [state, count] of Object.entries(stats)) addresses.set({ pool, state }, count);
    }
    storeRevision.set(revision);
    kernelRevision.set(health.kernel.revision);
    inSync.set(health.kernel.inSync ? 1 : 0);
    proxyRunning.set(health.ingress.running ? 1 : 0);
    flows.reset();
    flows.inc({ verdict: 'deny' }, health.audit.denied);
    flows.inc({ verdict: 'audit' }, health.audit.audited);
    setCounter(lostFlows, health.audit.dropped);
    auditWorks.set(health.audit.works ? 1 : 0);
    if (conntrack !== undefined) {
      tracked.set(conntrack.entries);
      trackable.set(conntrack.maximum);
    }
    const { user, system } = process.cpuUsage();
    setCounter(cpu, (user + system) / 1e6);
    memory.set(process.memoryUsage.rss());
  };
}

/** For figures that are counted elsewhere and only grow. */
function setCounter(counter: Counter, value: number): void {
  counter.reset();
  counter.inc(value);
}
