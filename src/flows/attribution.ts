/** Says whose connection an event of the kernel was, and by which policies; it knows the state of the moment only. Pure. */
import type { Ipv4 } from '../model/address.ts';
import type { FlowEvent } from '../model/flow.ts';
import type { Desired } from '../model/observed.ts';
import type { Workload } from '../model/workload.ts';
import { policyModel, type PolicyModel } from '../policy/evaluate.ts';
import { namespaceLabels } from '../policy/parties.ts';
import { policyName } from '../policy/reasons.ts';
import type { NewFlow } from './ring.ts';

type Attributed = Pick<Desired, 'workloads' | 'workloadGeneration' | 'policies' | 'policyGeneration' | 'namespaces'>;

/** Ask it at once when an event comes in: addresses and policies belong to others later. */
export function attribution(desired: Attributed): (event: FlowEvent) => NewFlow {
  let byIp: { readonly generation: number; readonly workloads: ReadonlyMap<Ipv4, Workload> } | undefined;
  let model: { readonly generation: number; readonly policies: PolicyModel } | undefined;

  const ownerOf = (ip: Ipv4): Workload | undefined => {
    if (byIp?.generation !== desired.workloadGeneration) {
      byIp = { generation: desired.workloadGeneration, workloads: new Map([...desired.workloads.values()].map((workload) => [workload.ip, workload])) };
    }
    return byIp.workloads.get(ip);
  };
  const policies = (): PolicyModel => {
    if (model?.generation !== desired.policyGeneration) {
      model = { generation: desired.policyGeneration, policies: policyModel({ policies: desired.policies.values(), namespaces: namespaceLabels(desired.namespaces.values()) }) };
    }
    return model.policies;
  };

  /**
   * The kernel has decided; what is left to say is whose decision it was. No policy denies alone, for what one of them allows is
   * allowed: it is all of that mode that isolate this side. On the way to the node imported ones have no say of their own.
   */
  const deciding = ({ place, verdict }: FlowEvent, { source, destination }: { source: Workload | undefined; destination: Workload | undefined }): string | null => {
    const side = place === 'ingress' ? destination : source;
    if (side === undefined) return null;
    const isolating = policies().selecting(side, place === 'ingress' ? 'ingress' : 'egress').filter(({ mode }) => mode === modeOf(verdict));
    const native = place === 'host' ? isolating.filter(({ origin }) => origin === 'native') : [];
    const names = (native.length > 0 ? native : isolating).map(policyName);
    return names.length === 0 ? null : names.toSorted().join(', ');
  };

  return (event) => {
    const { timeMs, from, to, port, protocol, verdict, place } = event;
    const source = ownerOf(from);
    const destination = ownerOf(to);
    return {
      timeMs,
      from: nameOf(source) ?? from,
      fromIp: from,
      to: place === 'host' ? 'entity:host' : (nameOf(destination) ?? to),
      toIp: to,
      port: port ?? null,
      protocol,
      verdict,
      direction: place,
      policy: deciding(event, { source, destination }),
      mode: modeOf(verdict),
    };
  };
}

function modeOf(verdict: FlowEvent['verdict']): 'enforce' | 'audit' {
  return verdict === 'deny' ? 'enforce' : 'audit';
}

function nameOf(workload: Workload | undefined): string | undefined {
  return workload === undefined ? undefined : `${workload.namespace}/${workload.name}`;
}
