/** Everything that this node's kernel shall hold, from the desired and the observed state. No I/O, no clock. */
import type { Desired } from '../model/observed.ts';
import type { Node } from '../model/node.ts';
import type { EndpointsOf } from './endpoints.ts';
import type { IpsetState, IptablesState, Jump, NodeNetwork, TableState, WorkloadLink } from './kernel-state.ts';
import { compileNodeNetwork, linksCompiler } from './links.ts';
import { compileHairpinSet, compileMasquerade } from './masquerade.ts';
import { compileFilter, compileRaw } from './netpol.ts';
import { policiesCompiler } from './policies.ts';
import { servicesCompiler, SERVICES_CHAIN } from './services.ts';

export interface KernelState {
  readonly nodeNetwork: NodeNetwork;
  readonly links: readonly WorkloadLink[];
  readonly ipsets: readonly IpsetState[];
  readonly iptables: IptablesState;
}

export interface KernelCompiler {
  /**
   * The whole state, the same whatever was compiled before. What did not change since the call before is the same object.
   * `changedServices` names the record keys of services that may differ, by themselves or in their endpoints; undefined: any.
   */
  compile(desired: Desired, endpointsOf: EndpointsOf, changedServices?: Iterable<string>): KernelState;
}

/** One change among thousands of services costs what that service costs. */
export function kernelCompiler(node: Node): KernelCompiler {
  const nodeNetwork = compileNodeNetwork(node);
  const services = servicesCompiler(node.ranges.clusterIp);
  const natOf = natTable(node);
  const linksOf = linksCompiler(node);
  const policies = policiesCompiler(node.id);
  let workloads: WorkloadPart | undefined;
  let filtered: FilterPart | undefined;
  return {
    compile: (desired, endpointsOf, changedServices) => {
      if (workloads?.generation !== desired.workloadGeneration) workloads = compileWorkloads(linksOf(desired.workloads.values()), desired.workloadGeneration);
      const { links, hairpin, raw } = workloads;
      if (filtered?.links !== links || filtered.policyGeneration !== desired.policyGeneration) {
        const compiled = policies.compile(desired);
        filtered = { links, policyGeneration: desired.policyGeneration, filter: compileFilter(node, links, compiled), sets: compiled.sets };
      }
      const { filter, sets } = filtered;
      const nat = natOf(services.compile({ services: desired.services, endpointsOf, changed: changedServices }));
      return { nodeNetwork, links, ipsets: [hairpin, ...sets, ...services.sets()], iptables: { raw, filter, nat } };
    },
  };
}

/** The same for one state alone. */
export function compileKernel(node: Node, desired: Desired, endpointsOf: EndpointsOf): KernelState {
  return kernelCompiler(node).compile(desired, endpointsOf);
}

interface WorkloadPart extends Pick<KernelState, 'links'>, Pick<IptablesState, 'raw'> {
  readonly generation: number;
  readonly hairpin: IpsetState;
}

/** What depends on policies, too. */
interface FilterPart extends Pick<KernelState, 'links'>, Pick<IptablesState, 'filter'> {
  readonly policyGeneration: number;
  readonly sets: readonly IpsetState[];
}

function compileWorkloads(links: readonly WorkloadLink[], generation: number): WorkloadPart {
  return { generation, links, hairpin: compileHairpinSet(links), raw: compileRaw(links) };
}

function natTable(node: Node): (services: TableState['chains']) => TableState {
  const vips = node.ranges.clusterIp;
  const masquerade = compileMasquerade(node);
  const jumps: readonly Jump[] = [
    ...['PREROUTING', 'OUTPUT'].map((chain): Jump => ({ chain, rule: `-d ${vips} -m comment --comment clawnode -j ${SERVICES_CHAIN}`, place: 'first' })),
    ...masquerade.jumps,
  ];
  let known: { readonly services: TableState['chains']; readonly table: TableState } | undefined;
  return (services) => {
    if (known?.services !== services) known = { services, table: { chains: new Map([...masquerade.chains, ...services]), jumps } };
    return known.table;
  };
}
