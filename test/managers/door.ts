/** The door with real managers on a real store, and a kernel that takes everything at once: for what is decided before the kernel. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { dispatch, type Door } from '../../src/dispatch.ts';
import { openDesiredView } from '../../src/managers/desired-view.ts';
import { createManagers } from '../../src/managers/managers.ts';
import { createMutate } from '../../src/managers/plans.ts';
import type { World } from '../../src/managers/world.ts';
import { cidr, ipv4 } from '../../src/model/address.ts';
import { ranges } from '../../src/model/node.ts';
import { createEndpointCache } from '../../src/observed/endpoint-cache.ts';
import { createObservedState } from '../../src/observed/observed-state.ts';
import { openSqliteStore } from '../../src/store/sqlite.ts';
import type { StoreItem } from '../../src/store/store.ts';

export interface TestDoor {
  call(command: string, params: unknown): Promise<Record<string, unknown>>;
  /** Writes these records as another agent would, and resolves when the managers know them. */
  prefill(records: Readonly<Record<string, unknown>>): Promise<void>;
  /** All that is stored. */
  stored(): Promise<readonly StoreItem[]>;
  /** How often a workload was asked to start. */
  started(): number;
  close(): Promise<void>;
}

export async function openDoor({ clusterIp = '10.201.0.0/16', flows = () => ({ flows: [], count: 0 }) }: { clusterIp?: string; flows?: World['flows'] } = {}): Promise<TestDoor> {
  const directory = await mkdtemp(join(tmpdir(), 'claw-door-'));
  const logger = pino({ level: 'silent' });
  const store = await openSqliteStore(join(directory, 'store.db'));
  const view = await openDesiredView(store, logger);
  const observed = createObservedState();
  let started = 0;
  const managers = createManagers({
    node: {
      id: 'n1',
      number: 1,
      ranges: ranges.parse({ clusterIp }),
      subnet: cidr.parse('10.200.1.0/24'),
      gateway: ipv4.parse('10.200.1.1'),
      mtu: 1420,
      exposeTo: [],
      dropForeignForwarding: false,
    },
    mode: 'sandbox',
    version: '0.0.0',
    desired: view.state,
    observed: observed.state,
    endpointsOf: createEndpointCache(view.state, observed.state).endpointsOf,
    processesAllowed: true,
    isListening: async () => true,
    tryConnection: async () => ({ code: 'OPEN', latencyMs: 0.5 }),
    isOwnAddress: (ip) => ip === '10.200.1.1',
    allocations: (range) => view.allocations(range),
    modRevision: (key) => view.modRevision(key),
    now: () => new Date(),
    mutate: createMutate(store, view),
    workloadStarted: async (id) => {
      started += 1;
      observed.set(id, { state: 'running', restarts: 0 });
    },
    workloadRemoved: async () => view.state.revision,
    workloadLogs: async () => [],
    health: () => ({
      kernel: { inSync: true, backend: 'nft', revision: view.state.revision },
      drift: { repairs: 0 },
      ingress: { port: 8443, running: true },
      metrics: {},
      audit: { works: true, starting: false, denied: 0, audited: 0, dropped: 0 },
      storeDriver: 'sqlite',
    }),
    flows,
    conntrack: async () => undefined,
    whyUnhealthy: () => undefined,
    outside: { requireDocker: notHere, requireImage: notHere, findContainer: notHere, requireNamespace: notHere },
  });
  const inForce = { enforced: true } as const;
  const door: Door = {
    admitChange: () => undefined,
    managers,
    logger,
    audit: { write: () => undefined },
    programmed: async () => inForce,
    isProgrammed: () => inForce,
    served: async () => inForce,
    isServed: () => inForce,
  };
  return {
    call: (command, params) => dispatch(door, { command, params, caller: { surface: 'test', peer: Promise.resolve('test') } }, new AbortController().signal),
    prefill: async (records) => {
      const { revision } = await store.txn([], Object.entries(records).map(([key, value]) => ({ type: 'put' as const, key, value })));
      await view.reached(revision);
    },
    stored: async () => (await store.list('')).items,
    started: () => started,
    close: async () => {
      await view.close();
      await store.close();
      await rm(directory, { recursive: true });
    },
  };
}

/** No test behind this door asks for what lies outside of the store. */
async function notHere(): Promise<never> {
  throw new Error('the door of these tests leads to no container and no namespace');
}
