/** Owns one connection pool per endpoint, chooses among endpoints and remembers which ones refused; it knows no request. */
import { Client, Pool, type Dispatcher } from 'undici';
import type { Route } from '../model/route-snapshot.ts';
import type { ProxyLimits } from './config.ts';

export interface Endpoint {
  /** `ip:port`. */
  readonly key: string;
  /** Keeps connections open between requests. */
  readonly pool: Dispatcher;
  /** A connection of its own that no other request has used or will use. */
  readonly dialAnew: () => Dispatcher;
  active: number;
  /** Connect failures in a row. */
  failures: number;
  /** Monotonic time until which other endpoints are preferred. */
  ejectedUntilMs: number;
}

/** The endpoints of one route and where its turn stands. */
export interface EndpointGroup {
  readonly endpoints: readonly Endpoint[];
  /** Policies admit the proxy to none of the endpoints that there are. */
  readonly refused: boolean;
  next: number;
}

export type Backend = Pick<Route, 'targets' | 'refused'>;

export interface EndpointRegistry {
  /** The group over these targets; known endpoints keep their pool and their history. */
  readonly group: (backend: Backend) => EndpointGroup;
  /** Closes the pools of all endpoints outside the groups; their running requests finish first. */
  readonly retain: (groups: Iterable<EndpointGroup>) => void;
  readonly size: () => number;
  readonly close: () => Promise<void>;
}

export function createEndpointRegistry(limits: ProxyLimits): EndpointRegistry {
  const endpoints = new Map<string, Endpoint>();
  const closing = new Set<Promise<void>>();
  const retire = (endpoint: Endpoint): void => {
    endpoints.delete(endpoint.key);
    const closed = endpoint.pool.close().finally(() => closing.delete(closed));
    closing.add(closed);
  };
  return {
    group: ({ targets, refused = false }) => {
      const members = new Map(targets.map((target) => [`${target.ip}:${target.port}`, target]));
      const group = [...members.keys()].map((key) => {
        const endpoint = endpoints.get(key) ?? openEndpoint(key, limits);
        endpoints.set(key, endpoint);
        return endpoint;
      });
      return { endpoints: group, refused, next: Math.floor(Math.random() * group.length) };
    },
    retain: (groups) => {
      const kept = new Set<Endpoint>();
      for (const group of groups) for (const endpoint of group.endpoints) kept.add(endpoint);
      for (const endpoint of endpoints.values()) if (!kept.has(endpoint)) retire(endpoint);
    },
    size: () => endpoints.size,
    close: async () => {
      for (const endpoint of endpoints.values()) retire(endpoint);
      await Promise.all(closing);
    },
  };
}

/** Endpoints that a request may still be sent to are those it has not tried. */
export interface PickConstraints {
  readonly tried: ReadonlySet<Endpoint>;
  readonly nowMs: number;
  readonly maxActive: number;
}

/**
 * The next endpoint in turn or a random other one, whichever has fewer running requests: even when idle, least loaded under
 * load. Ejected endpoints are taken only when nothing else is left, since ejection is a guess and health comes with the routes.
 */
export function pickEndpoint(group: EndpointGroup, constraints: PickConstraints): Endpoint | undefined {
  const { endpoints } = group;
  const count = endpoints.length;
  if (count === 0) return undefined;
  const turn = group.next % count;
  group.next = turn + 1;
  const first = endpoints[turn];
  const second = count > 1 ? endpoints[(turn + 1 + Math.floor(Math.random() * (count - 1))) % count] : undefined;
  const best = lessLoaded(preferred(first, constraints), preferred(second, constraints));
  if (best !== undefined) return best;
  const rest = endpoints.filter((endpoint) => !constraints.tried.has(endpoint) && endpoint.active < constraints.maxActive);
  const healthy = rest.filter((endpoint) => endpoint.ejectedUntilMs <= constraints.nowMs);
  if (healthy.length > 0) return healthy.reduce((a, b) => (b.active < a.active ? b : a));
  return rest.length === 0 ? undefined : rest.reduce((a, b) => (b.ejectedUntilMs < a.ejectedUntilMs ? b : a));
}

/** An endpoint that did not accept a connection is left alone for 1 s, then 2 s, up to 30 s. */
export function eject(endpoint: Endpoint, nowMs: number): void {
  // Requests that failed together count once, or a burst alone would reach the longest pause.
  if (endpoint.ejectedUntilMs > nowMs) return;
  endpoint.failures += 1;
  endpoint.ejectedUntilMs = nowMs + Math.min(1_000 * 2 ** (endpoint.failures - 1), 30_000);
}

/** An endpoint that accepted a connection is as good as any again. */
export function readmit(endpoint: Endpoint): void {
  endpoint.failures = 0;
  endpoint.ejectedUntilMs = 0;
}

function preferred(endpoint: Endpoint | undefined, { tried, nowMs, maxActive }: PickConstraints): Endpoint | undefined {
  const usable = endpoint !== undefined && endpoint.ejectedUntilMs <= nowMs && endpoint.active < maxActive && !tried.has(endpoint);
  return usable ? endpoint : undefined;
}

function lessLoaded(a: Endpoint | undefined, b: Endpoint | undefined): Endpoint | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return b.active < a.active ? b : a;
}

function openEndpoint(key: string, limits: ProxyLimits): Endpoint {
  const origin = `http://${key}`;
  const options = {
    pipelining: 1,
    allowH2: false,
    connect: { timeout: limits.connectTimeoutMs },
    headersTimeout: limits.responseHeadersTimeoutMs,
    bodyTimeout: limits.idleTimeoutMs,
    keepAliveTimeout: limits.upstreamKeepAliveMs,
    keepAliveMaxTimeout: limits.upstreamKeepAliveMs,
    maxHeaderSize: limits.maxHeaderBytes,
  };
  return {
    key,
    pool: new Pool(origin, options),
    dialAnew: () => new Client(origin, options),
    active: 0,
    failures: 0,
    ejectedUntilMs: 0,
  };
}
