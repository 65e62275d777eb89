/** What managers work with: this node, the desired and observed state, the store's door, and the clock. No driver is reachable from here. */
import type { EndpointsOf } from '../compile/endpoints.ts';
import type { AllocationRange } from '../ipam/keys.ts';
import type { ConntrackSize } from '../model/conntrack.ts';
import type { Ipv4 } from '../model/address.ts';
import type { FlowLogStatus, FlowQuery, ToldFlow } from '../model/flow.ts';
import type { AllocationTable } from './record-state.ts';
import type { Desired, Endpoint, Observed } from '../model/observed.ts';
import type { Node } from '../model/node.ts';
import type { Service } from '../model/service.ts';
import type { Workload } from '../model/workload.ts';
import type { Compare, StoreOp } from '../store/store.ts';

export type Mode = 'host' | 'sandbox' | 'model';

/** One mutation, worked out from the state that `plan` saw; `answer` is given back once it is committed. */
export interface Plan<Answer> {
  readonly compares: readonly Compare[];
  readonly ops: readonly StoreOp[];
  readonly answer: Answer;
}

/** How this node does, for `network.status`. */
export interface NodeHealth {
  readonly kernel: {
    readonly inSync: boolean;
    readonly backend: string;
    readonly revision: number;
    /** How long the last pass over it took. */
    readonly lastPassMs?: number;
    readonly reason?: string;
  };
  readonly drift: { readonly repairs: number; readonly lastRepairAt?: string; readonly last?: string };
  readonly ingress: { readonly port: number; readonly running: boolean; readonly reason?: string };
  /** Where metrics are served, if they are, and why not although they should be. */
  readonly metrics: { readonly url?: string; readonly failure?: string };
  readonly storeDriver: string;
  /** Whether we are told what policies deny or would deny. */
  readonly audit: FlowLogStatus;
}

/** Everything throws: NOT_SUPPORTED or NOT_ALLOWED where containers are not used, DOCKER_UNREACHABLE, and what is wrong with what was asked for. */
export interface OutsideLookup {
  requireDocker(signal: AbortSignal): Promise<void>;
  requireImage(image: string, signal: AbortSignal): Promise<void>;
  /** The full id of a running container that can be attached. */
  findContainer(container: string, signal: AbortSignal): Promise<string>;
  requireNamespace(path: string, signal: AbortSignal): Promise<void>;
}

/** From a network namespace below /run/netns, or from the node when undefined. */
export interface ConnectionAttempt {
  readonly netns: string | undefined;
  readonly ip: Ipv4;
  readonly port: number;
  readonly protocol: 'tcp' | 'udp';
}

export interface World {
  readonly node: Node;
  readonly mode: Mode;
  readonly version: string;
  readonly desired: Desired;
  readonly observed: Observed;
  readonly endpointsOf: EndpointsOf;
  /** Whether the configuration lets `workload.run` start processes on this node. */
  readonly processesAllowed: boolean;
  /** What can be asked about containers and network namespaces before anything is written. */
  readonly outside: OutsideLookup;
  /** Whether this is an address of the node itself. */
  isOwnAddress(ip: Ipv4): boolean;
  allocations(range: AllocationRange): AllocationTable;
  modRevision(key: string): number;
  now(): Date;
  /**
   * The one way to write. Plans run one after another, each on a state that holds all earlier ones; a plan that loses a
   * compare to another agent is worked out again. Resolves with the revision when the state holds the change.
   */
  mutate<Answer>(plan: () => Plan<Answer>): Promise<{ answer: Answer; revision: number }>;
  /** Resolves when the workload runs or could not be started. */
  workloadStarted(id: string, signal: AbortSignal): Promise<void>;
  /** Resolves with the store revision of its removal when nothing of the workload is left and its address is released. */
  workloadRemoved(id: string, signal: AbortSignal): Promise<number>;
  workloadLogs(workload: Workload, tail: number, signal: AbortSignal): Promise<string[]>;
  /** Really opens a connection and tells what came of it: `OPEN`, `SILENT` or the kernel's error code. */
  tryConnection(target: ConnectionAttempt, signal: AbortSignal): Promise<{ readonly code: string; readonly latencyMs: number }>;
  /** Newest first; `count` is how many match, before the limit. */
  flows(query: FlowQuery): { readonly flows: readonly ToldFlow[]; readonly count: number };
  /** Whether anybody listens on that TCP port in the network namespace of a workload of this node. */
  isListening(at: Pick<ConnectionAttempt, 'netns' | 'port'>, signal: AbortSignal): Promise<boolean>;
  health(): NodeHealth;
  /** In words; undefined for an endpoint that is healthy. */
  whyUnhealthy(service: Service, endpoint: Endpoint): string | undefined;
  /** Undefined where the kernel tracks no connections. */
  conntrack(): Promise<ConntrackSize | undefined>;
}
