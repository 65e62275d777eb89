/** The store's records in memory, parsed, by kind, and the allocations of each range; it knows no store and no revision of a key. */
import { allocationPrefix, allocationRecord, cursorRecord, type AllocationRange } from '../ipam/keys.ts';
import { ipv4, type Ipv4 } from '../model/address.ts';
import { ingress, type Ingress } from '../model/ingress.ts';
import { namespace, type Namespace } from '../model/namespace.ts';
import type { Desired } from '../model/observed.ts';
import { policy, type Policy } from '../model/policy.ts';
import { service, type Service } from '../model/service.ts';
import { workload, type Workload } from '../model/workload.ts';

/** One range's allocations as `ipam/allocate` takes them. */
export interface AllocationTable {
  readonly taken: ReadonlyMap<Ipv4, string>;
  /** Address -> epoch ms of its release. */
  readonly released: ReadonlyMap<Ipv4, number>;
  readonly last: Ipv4 | undefined;
}

export interface RecordState {
  readonly state: MutableState;
  allocations(range: AllocationRange): AllocationTable;
  /** Throws when the record can not be read. */
  put(key: string, value: unknown): void;
  remove(key: string): void;
}

interface MutableTable {
  readonly taken: Map<Ipv4, string>;
  readonly released: Map<Ipv4, number>;
  last: Ipv4 | undefined;
}

interface MutableState {
  revision: number;
  workloadGeneration: number;
  policyGeneration: number;
  readonly services: Map<string, Service>;
  readonly ingresses: Map<string, Ingress>;
  readonly workloads: Map<string, Workload>;
  readonly namespaces: Map<string, Namespace>;
  readonly policies: Map<string, Policy>;
}

export interface RecordStateSource {
  readonly desired: Desired;
  allocations(range: AllocationRange): AllocationTable;
}

/** Empty, or a copy that goes its own way from then on. */
export function createRecordState(source?: RecordStateSource): RecordState {
  const { desired } = source ?? {};
  const state: MutableState = {
    revision: desired?.revision ?? 0,
    workloadGeneration: desired?.workloadGeneration ?? 0,
    policyGeneration: desired?.policyGeneration ?? 0,
    services: new Map(desired?.services),
    ingresses: new Map(desired?.ingresses),
    workloads: new Map(desired?.workloads),
    namespaces: new Map(desired?.namespaces),
    policies: new Map(desired?.policies),
  };
  const tables = new Map<string, MutableTable>();

  const table = (prefix: string, copied?: AllocationTable): MutableTable => {
    const known = tables.get(prefix);
    if (known !== undefined) return known;
    const made: MutableTable = { taken: new Map(copied?.taken), released: new Map(copied?.released), last: copied?.last };
    tables.set(prefix, made);
    return made;
  };

  return {
    state,
    // A range is copied when it is first asked for, which whoever writes an allocation has done before.
    allocations: (range) => table(allocationPrefix(range), source?.allocations(range)),

    put: (key, value) => {
      const [kind = ''] = key.split('/', 1);
      if (kind === 'services') state.services.set(key, service.parse(value));
      else if (kind === 'ingresses') state.ingresses.set(key, ingress.parse(value));
      else if (kind === 'policies') {
        state.policies.set(key, policy.parse(value));
        state.policyGeneration += 1;
      } else if (kind === 'namespaces') {
        state.namespaces.set(key, namespace.parse(value));
        state.policyGeneration += 1;
      } else if (kind === 'workloads') {
        state.workloads.set(key, workload.parse(value));
        state.workloadGeneration += 1;
      } else if (kind === 'ipam') putAllocation(table, { key, value });
    },

    remove: (key) => {
      const [kind = ''] = key.split('/', 1);
      if (kind === 'ipam') {
        const { prefix, ip } = allocationPlace(key);
        if (ip === undefined) return;
        table(prefix).taken.delete(ip);
        table(prefix).released.delete(ip);
        return;
      }
      if (kind === 'workloads') state.workloadGeneration += 1;
      if (kind === 'policies' || kind === 'namespaces') state.policyGeneration += 1;
      recordMaps(state)[kind]?.delete(key);
    },
  };
}

function recordMaps(state: MutableState): Record<string, Map<string, unknown>> {
  return { services: state.services, ingresses: state.ingresses, workloads: state.workloads, namespaces: state.namespaces, policies: state.policies };
}

/** `ipam/clusterip/10.201.0.1` names an address below its range's prefix; `ipam/cursor/clusterip` names the range only. */
function allocationPlace(key: string): { prefix: string; ip: Ipv4 | undefined } {
  const cursor = 'ipam/cursor/';
  if (key.startsWith(cursor)) return { prefix: `ipam/${key.slice(cursor.length)}/`, ip: undefined };
  const slash = key.lastIndexOf('/') + 1;
  return { prefix: key.slice(0, slash), ip: ipv4.parse(key.slice(slash)) };
}

function putAllocation(table: (prefix: string) => MutableTable, { key, value }: { key: string; value: unknown }): void {
  const { prefix, ip } = allocationPlace(key);
  const target = table(prefix);
  if (ip === undefined) {
    target.last = cursorRecord.parse(value).last;
    return;
  }
  const record = allocationRecord.parse(value);
  target.taken.delete(ip);
  target.released.delete(ip);
  if ('owner' in record) target.taken.set(ip, record.owner);
  else target.released.set(ip, Date.parse(record.releasedAt));
}
