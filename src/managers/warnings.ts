/** What a person should know about this node, in words; it only judges figures and never looks at anything itself. */
import type { PoolStats } from '../ipam/pool.ts';
import { isNearlyFull, type ConntrackSize } from '../model/conntrack.ts';
import type { Figures } from './figures.ts';
import type { NodeHealth } from './world.ts';

export interface NodeFacts {
  readonly health: NodeHealth;
  readonly figures: Figures;
  readonly conntrack: ConntrackSize | undefined;
  /** `namespace/name` of services without a healthy endpoint, and of workloads that could not be started or do not stay up. */
  readonly deserted: readonly string[];
  readonly failed: readonly string[];
  readonly restarting: readonly string[];
}

/** From this share of its addresses on, a range is nearly full. */
const NEARLY_FULL = 0.9;
const NAMES_SHOWN = 3;

/** The worst first. Empty when all is well. */
export function nodeWarnings({ health, figures, conntrack, deserted, failed, restarting }: NodeFacts): string[] {
  const { kernel, ingress, metrics, audit } = health;
  return [
    ...(kernel.inSync ? [] : [`the kernel does not hold what the store says: ${kernel.reason ?? 'no reason is known'}`]),
    ...conntrackWarning(conntrack),
    ...ingressWarning(ingress, figures.ingresses),
    ...poolWarning('virtual IPs', 'delete services that are no longer needed', figures.pools.clusterIps),
    ...poolWarning('workload addresses', 'stop workloads that are no longer needed', figures.pools.workloadIps),
    ...named(failed, 'could not be started', 'workload'),
    ...named(restarting, restarting.length === 1 ? 'keeps ending and is started again' : 'keep ending and are started again', 'workload'),
    ...named(deserted, deserted.length === 1 ? 'has no healthy endpoint and refuses connections' : 'have no healthy endpoint and refuse connections', 'service'),
    ...auditWarning(audit, kernel),
    ...(metrics.failure === undefined ? [] : [`metrics are not served: ${metrics.failure}`]),
  ];
}

function conntrackWarning(size: ConntrackSize | undefined): string[] {
  if (size === undefined || !isNearlyFull(size)) return [];
  const { entries, maximum } = size;
  const remedy = 'raise net.netfilter.nf_conntrack_max on the machine (sysctl), or find out who opens so many connections';
  return entries >= maximum
    ? [`the connection tracking table is full (${entries} of ${maximum}): new connections are dropped; ${remedy}`]
    : [`the connection tracking table is nearly full (${entries} of ${maximum}); when it is, new connections are dropped: ${remedy}`];
}

/** A proxy that nobody needs yet, or that is just being started, is nothing to worry about. */
function ingressWarning({ running, port, reason }: NodeHealth['ingress'], ingresses: number): string[] {
  if (reason !== undefined) return [running ? `the ingress proxy on port ${port}: ${reason}` : `the ingress proxy does not run: ${reason}`];
  return running || ingresses === 0 ? [] : [`the ingress proxy does not run yet on port ${port}`];
}

/** Without its rules in the kernel it can not work, which is told already. */
function auditWarning({ works, starting, reason }: NodeHealth['audit'], { inSync }: NodeHealth['kernel']): string[] {
  return works || starting || !inSync ? [] : [`what policies deny is not told in network.flows: ${reason ?? 'no reason is known'}`];
}

function poolWarning(what: string, remedy: string, { used, free, quarantined }: PoolStats): string[] {
  const size = used + free + quarantined;
  // What rests in quarantine is given out again when nothing else is left.
  if (size === 0 || used < NEARLY_FULL * size) return [];
  return [`${used} of ${size} ${what} are in use${used >= size ? ', none is left' : ''}: ${remedy}`];
}

function named(names: readonly string[], what: string, noun: 'service' | 'workload'): string[] {
  if (names.length === 0) return [];
  const shown = names.slice(0, NAMES_SHOWN).join(', ');
  const more = names.length > NAMES_SHOWN ? ` and ${names.length - NAMES_SHOWN} more` : '';
  return [`${names.length === 1 ? noun : `${names.length} ${noun}s`} ${shown}${more} ${what}`];
}
