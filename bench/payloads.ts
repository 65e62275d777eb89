/** The restore payloads that the agent's own compile and driver make for services, recorded instead of committed. */
import { endpointLookup } from '../src/compile/endpoints.ts';
import { compileKernel, type KernelState } from '../src/compile/kernel.ts';
import { iptablesDriver } from '../src/drivers/iptables.ts';
import { transactionSizes } from '../src/drivers/iptables-transactions.ts';
import type { Service } from '../src/model/service.ts';
import { aService, desired, node, observed } from '../test/compile/state.ts';
import { endpointsOf, nameOf } from './agent.ts';

export interface Recorder {
  /** What a commit of this change would write. */
  add(number: number, clusterIp: string): Promise<string>;
  remove(number: number): Promise<string>;
}

/** Begins with these services; `initial` is what writes them into an empty kernel. */
export async function recordPayloads(services: ReadonlyMap<number, string>): Promise<Recorder & { readonly initial: string }> {
  const state = new Map([...services].map(([number, clusterIp]) => [number, benchService(number, clusterIp)]));
  let written = '';
  const driver = iptablesDriver(transactionSizes('nft'), () => ({
    save: () => Promise.resolve(''),
    saveTable: () => Promise.resolve(''),
    listChains: () => Promise.resolve(new Map()),
    smallTableRules: 0,
    commit: (payload) => {
      written = payload;
      return Promise.resolve();
    },
    close: () => Promise.resolve(),
  }));
  const apply = async (): Promise<string> => {
    written = '';
    await driver.apply(compileServices([...state.values()]).iptables);
    return written;
  };
  const initial = await apply();
  return {
    initial,
    add: (number, clusterIp) => {
      state.set(number, benchService(number, clusterIp));
      return apply();
    },
    remove: (number) => {
      state.delete(number);
      return apply();
    },
  };
}

export function benchService(number: number, clusterIp: string): Service {
  return aService({ name: nameOf(number), clusterIp, endpoints: endpointsOf(number) });
}

export function compileServices(services: readonly Service[]): KernelState {
  const state = desired({ services });
  return compileKernel(node, state, endpointLookup(state, observed([])));
}

/** `ipset restore` input for the sets that the rules name. */
export function setsOf({ ipsets }: KernelState): string {
  return ipsets.map(({ name, create }) => `create ${name} ${create}\n`).join('');
}

/** The n-th virtual IP in the order in which an agent gives them out, from 0. */
export function vipOf(number: number): string {
  return `10.201.${(number + 1) >> 8}.${(number + 1) & 255}`;
}
