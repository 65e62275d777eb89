/** Has the endpoints of services with a health check probed, and keeps what comes of it as observed; it programs nothing. */
import type { Logger } from 'pino';
import { healthKey, probedPort } from '../compile/endpoints.ts';
import type { Translated } from '../compile/translated.ts';
import { startHealthChecker, type HealthTarget } from '../health/checker.ts';
import type { DesiredView } from '../managers/desired-view.ts';
import type { Endpoint } from '../model/observed.ts';
import type { Service } from '../model/service.ts';
import type { EndpointCache } from '../observed/endpoint-cache.ts';
import type { ObservedState } from '../observed/observed-state.ts';

export interface HealthOptions {
  readonly view: Pick<DesiredView, 'state' | 'servicesChangedSince' | 'onChange'>;
  readonly observed: ObservedState;
  readonly endpointsOf: EndpointCache['endpointsOf'];
  /** What the kernel translates to at the start; asked only when a service has a health check. */
  readonly readTranslated: (signal: AbortSignal) => Promise<Translated>;
  readonly logger: Logger;
}

export interface Health {
  /** Why an endpoint gets no traffic; undefined when it does. */
  whyUnhealthy(service: Service, endpoint: Endpoint): string | undefined;
  /** Ends every probe. */
  close(): void;
}

/** A service as it was when it was last looked at. */
interface Known {
  readonly service: Service;
  readonly endpoints: readonly Endpoint[];
  readonly targets: readonly HealthTarget[];
}

/**
 * Open it before the loop that compiles: it has to hear of each change first. What was healthy before this agent started is what
 * the kernel translates to: that stays in until probes say otherwise, and all else has to prove itself.
 */
export async function openHealth(options: HealthOptions, signal: AbortSignal): Promise<Health> {
  const { view, observed, endpointsOf, logger } = options;
  const inherited = await readInherited(options, signal);
  const known = new Map<string, Known>();
  let seen: { readonly revision: number; readonly workloadGeneration: number } | undefined;
  let statesChanged = false;

  const checker = startHealthChecker({ onChange: (key) => observed.setHealth(key, checker.healthy(key) === true), logger });

  const stateOf = ({ containerId }: Endpoint): string =>
    containerId === null ? 'running' : (observed.state.workloads.get(containerId)?.state ?? 'starting');

  const targetsOf = (service: Service, endpoints: readonly Endpoint[]): HealthTarget[] => {
    const check = service.healthCheck;
    if (check === undefined) return [];
    return endpoints.flatMap((endpoint) => {
      const port = probedPort(endpoint);
      if (port === undefined || stateOf(endpoint) !== 'running') return [];
      return [{ key: healthKey(service, endpoint.ip, port), ip: endpoint.ip, port, check }];
    });
  };

  /** Whether it got traffic until now although no probe has said that it is healthy: before a restart, or before it had a check. */
  const served = (service: Service, before: Known | undefined): ((target: HealthTarget) => boolean) => {
    if (seen === undefined) return ({ ip, port }) => inherited.get(service.clusterIp)?.has(`${ip}:${port}`) === true;
    if (before === undefined || before.service.healthCheck !== undefined) return () => false;
    const healthy = endpointsOf(before.service).filter((endpoint) => endpoint.healthy);
    return ({ ip, port }) => healthy.some((endpoint) => endpoint.ip === ip && endpoint.ports.some((one) => one.protocol === 'tcp' && one.port === port));
  };

  const look = (key: string): void => {
    const service = view.state.services.get(key);
    const before = known.get(key);
    if (service === undefined) known.delete(key);
    const endpoints = service?.healthCheck === undefined ? NONE : endpointsOf(service);
    if (before !== undefined && before.service === service && before.endpoints === endpoints) return;
    const targets = service === undefined ? [] : targetsOf(service, endpoints);
    const staying = new Set(targets.map((target) => target.key));
    observed.forgetHealth((before?.targets ?? []).map((target) => target.key).filter((gone) => !staying.has(gone)));
    const isServed = service === undefined ? () => false : served(service, before);
    const presumed = targets.filter((target) => !observed.state.health.has(target.key) && isServed(target)).map((target) => target.key);
    observed.presumeHealthy(presumed);
    checker.set(targets.map((target) => ({ ...target, lastKnown: presumed.includes(target.key) ? true : undefined })), key);
    if (service !== undefined) known.set(key, { service, endpoints, targets });
  };

  const sync = (): void => {
    const { revision, workloadGeneration, services } = view.state;
    const others = statesChanged || seen?.workloadGeneration !== workloadGeneration;
    const changed = seen === undefined || others ? undefined : view.servicesChangedSince(seen.revision);
    for (const key of changed ?? new Set([...known.keys(), ...services.keys()])) look(key);
    seen = { revision, workloadGeneration };
    statesChanged = false;
  };

  const unsubscribe = [
    view.onChange(sync),
    observed.onChange((what) => {
      // What the checker itself has said changes no target.
      if (what === 'health') return;
      statesChanged = true;
      sync();
    }),
  ];
  sync();

  return {
    whyUnhealthy: (service, endpoint) => {
      if (endpoint.healthy) return undefined;
      const state = stateOf(endpoint);
      if (state !== 'running') return `its workload is ${state}`;
      const port = probedPort(endpoint);
      const result = port === undefined ? undefined : checker.result(healthKey(service, endpoint.ip, port));
      return result?.lastError ?? 'it has not passed its health check yet';
    },
    close: () => {
      for (const stop of unsubscribe) stop();
      checker.close();
    },
  };
}

const NONE: readonly Endpoint[] = [];

async function readInherited({ view, readTranslated, logger }: HealthOptions, signal: AbortSignal): Promise<Translated> {
  if (![...view.state.services.values()].some(({ healthCheck }) => healthCheck !== undefined)) return new Map();
  try {
    return await readTranslated(signal);
  } catch (error) {
    signal.throwIfAborted();
    logger.error({ err: error }, 'the rules of the kernel could not be read: every endpoint with a health check has to prove itself anew');
    return new Map();
  }
}
