/** Has the endpoints of services with a health check probed, and keeps what comes of it as observed; it programs nothing. */
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import { probedAddress, probedPort } from '../compile/endpoints.ts';
import type { Translated } from '../compile/translated.ts';
import { startHealthChecker, type HealthTarget } from '../health/checker.ts';
import type { DesiredView } from '../managers/desired-view.ts';
import type { Endpoint } from '../model/observed.ts';
import { recordKey } from '../model/record.ts';
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
}

interface Target extends HealthTarget {
  readonly address: string;
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

  const checker = startHealthChecker({
    onChange: (key) => {
      const [service = '', address = ''] = key.split(' ');
      observed.setHealth(service, { address, healthy: checker.healthy(key) === true });
    },
    logger,
  });

  const stateOf = ({ containerId }: Endpoint): string =>
    containerId === null ? 'running' : (observed.state.workloads.get(containerId)?.state ?? 'starting');

  const targetsOf = (service: Service, endpoints: readonly Endpoint[]): Target[] => {
    const check = service.healthCheck;
    if (check === undefined) return [];
    return endpoints.flatMap((endpoint) => {
      const port = probedPort(endpoint);
      if (port === undefined || stateOf(endpoint) !== 'running') return [];
      const address = `${endpoint.ip}:${port}`;
      return [{ key: targetKey(service, address), address, ip: endpoint.ip, port, check }];
    });
  };

  /** Whether it got traffic until now although no probe has said that it is healthy: before a restart, or before it had a check. */
  const served = (service: Service, before: Known | undefined): ((target: Target) => boolean) => {
    if (seen === undefined) return ({ address }) => inherited.get(service.clusterIp)?.has(address) === true;
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
    const isServed = service === undefined ? () => false : served(service, before);
    const health = observed.state.health.get(key);
    const kept = targets.flatMap((target): [string, boolean][] => {
      const healthy = health?.get(target.address) ?? (isServed(target) ? true : undefined);
      return healthy === undefined ? [] : [[target.address, healthy]];
    });
    const after = new Map(kept);
    if (!isDeepStrictEqual(after, health ?? new Map())) observed.replaceHealth(key, after);
    checker.set(targets.map((target) => ({ ...target, lastKnown: after.get(target.address) })), key);
    if (service !== undefined) known.set(key, { service, endpoints });
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
      const address = probedAddress(endpoint);
      const result = address === undefined ? undefined : checker.result(targetKey(service, address));
      return result?.lastError ?? 'it has not passed its health check yet';
    },
    close: () => {
      for (const stop of unsubscribe) stop();
      checker.close();
    },
  };
}

/** Record keys hold no blank. */
function targetKey(service: Service, address: string): string {
  return `${recordKey('services', service)} ${address}`;
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
