/** Small desired states for compile tests, made through the real schemas, and the text in which results are compared. */
import { parsePolicyForm, type PolicyForm } from '../../src/interop/native-policy.ts';
import { TABLES, type IptablesState } from '../../src/compile/kernel-state.ts';
import { cidr, ipv4 } from '../../src/model/address.ts';
import { ingress } from '../../src/model/ingress.ts';
import { ranges, type Node } from '../../src/model/node.ts';
import type { Desired, Observed } from '../../src/model/observed.ts';
import { policy, type Policy } from '../../src/model/policy.ts';
import { recordKey } from '../../src/model/record.ts';
import { service, type Service } from '../../src/model/service.ts';
import { workload, type Workload, type WorkloadState } from '../../src/model/workload.ts';

const base = { v: 1, createdAt: '2026-01-01T00:00:00.000Z', namespace: 'default' };

export const node: Node = {
  id: 'node-a',
  number: 1,
  ranges: ranges.parse({}),
  subnet: cidr.parse('10.200.1.0/24'),
  gateway: ipv4.parse('10.200.1.1'),
  mtu: 1420,
  exposeTo: [],
  dropForeignForwarding: false,
};

export function aService(fields: Record<string, unknown>): Service {
  return service.parse({ ...base, name: 'web', ports: [{ port: 80, protocol: 'tcp' }], manyPorts: false, endpoints: [], clusterIp: '10.201.0.1', ...fields });
}

export function aWorkload(fields: Record<string, unknown>): Workload {
  return workload.parse({
    ...base,
    id: '0000000a',
    name: 'w',
    labels: { app: 'web' },
    command: ['true'],
    env: {},
    ports: [],
    runtime: 'process',
    restart: 'no',
    ip: '10.200.1.2',
    node: 'node-a',
    stopping: false,
    ...fields,
  });
}

/** In the form of network.policy.create. */
export function aPolicy({ name = 'p', namespace = 'default', mode = 'enforce', origin = 'native', ...form }: PolicyForm & Partial<Pick<Policy, 'name' | 'namespace' | 'mode' | 'origin'>>): Policy {
  return policy.parse({ ...base, namespace, name, mode, origin, ...parsePolicyForm(form) });
}

interface Parts {
  readonly services?: readonly Service[];
  readonly workloads?: readonly Workload[];
  readonly ingresses?: readonly Record<string, unknown>[];
  readonly policies?: readonly Policy[];
}

export function desired({ services = [], workloads = [], ingresses = [], policies = [] }: Parts): Desired {
  const parsed = ingresses.map((fields) => ingress.parse({ ...base, name: 'in', tls: false, ...fields }));
  return {
    revision: 1,
    workloadGeneration: 1,
    policyGeneration: 1,
    services: new Map(services.map((item) => [recordKey('services', item), item])),
    workloads: new Map(workloads.map((item) => [recordKey('workloads', item), item])),
    ingresses: new Map(parsed.map((item) => [recordKey('ingresses', item), item])),
    namespaces: new Map(),
    policies: new Map(policies.map((item) => [recordKey('policies', item), item])),
  };
}

/** All workloads in this state unless `states` says otherwise, by id. */
export function observed(workloads: readonly Workload[], states: Readonly<Record<string, WorkloadState>> = {}): Observed {
  return { generation: 1, workloads: new Map(workloads.map(({ id }) => [id, { state: states[id] ?? 'running', restarts: 0 }])), health: new Map() };
}

/** The state as `iptables-save` would print our part of it. */
export function asText(state: IptablesState): string {
  return TABLES.flatMap((table) => [
    `*${table}`,
    ...state[table].jumps.map(({ chain, rule, place }) => `-A ${chain} ${rule}    # ${place}`),
    ...[...state[table].chains]
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .flatMap(([chain, rules]) => rules.map((rule) => `-A ${chain} ${rule}`)),
    'COMMIT',
    '',
  ]).join('\n');
}
