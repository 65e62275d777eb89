/** What the world says and the store does not keep, as plain data that compile steps and answers read; imports nothing local but its parts. */
import type { Ipv4, Port, Protocol } from './address.ts';
import type { Service } from './service.ts';
import type { Workload, WorkloadState } from './workload.ts';
import type { Ingress } from './ingress.ts';
import type { Namespace } from './namespace.ts';
import type { Policy } from './policy.ts';

export interface ObservedWorkload {
  readonly state: WorkloadState;
  /** 128 + n for a process that was killed by signal n. */
  readonly exitCode?: number;
  readonly restarts: number;
  /** Why it could not be started. */
  readonly message?: string;
}

/** `generation` grows with every change of a workload. */
export interface Observed {
  readonly generation: number;
  /** By workload id. */
  readonly workloads: ReadonlyMap<string, ObservedWorkload>;
  /**
   * What health checks say, by record key of the service and `ip:port` of the endpoint; nothing of what has not been probed. The
   * map of a service is another one after each change.
   */
  readonly health: ReadonlyMap<string, EndpointHealth>;
}

export type EndpointHealth = ReadonlyMap<string, boolean>;

/** All records of the store by record key, as of `revision`. A record that did not change stays the same object. */
export interface Desired {
  readonly revision: number;
  /** Grows whenever a workload record changes: endpoints need not be computed again before. */
  readonly workloadGeneration: number;
  /** Grows whenever a policy or a namespace changes. */
  readonly policyGeneration: number;
  readonly services: ReadonlyMap<string, Service>;
  readonly ingresses: ReadonlyMap<string, Ingress>;
  readonly workloads: ReadonlyMap<string, Workload>;
  readonly namespaces: ReadonlyMap<string, Namespace>;
  readonly policies: ReadonlyMap<string, Policy>;
}

/** One address behind one port of a service. */
export interface EndpointPort {
  readonly name?: string;
  readonly servicePort: Port;
  readonly protocol: Protocol;
  readonly port: Port;
}

/** One address behind a service. `containerId` is the workload's id, null for an explicit endpoint. */
export interface Endpoint {
  readonly ip: Ipv4;
  readonly containerId: string | null;
  readonly healthy: boolean;
  readonly node: string | null;
  /** In the order of the service's ports; a named port that the workload lacks is missing here. Never empty. */
  readonly ports: readonly EndpointPort[];
}
