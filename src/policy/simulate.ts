/** Answers probes, or the whole matrix, over workloads and policies that are given in the question. Pure. */
import type { PolicyModel } from './evaluate.ts';
import type { PolicyProtocol } from '../model/policy.ts';
import { partyName, reasonOf } from './reasons.ts';
import type { Party, PolicyWorkload } from './parties.ts';

export interface Probe {
  readonly from: Party;
  readonly to: Party;
  readonly port: number;
  readonly protocol: PolicyProtocol;
  /** In the words of the question, in which the answer is given. */
  readonly asked?: { readonly from: string; readonly to: string; readonly port: number | string };
}

export interface SimulatedFlow {
  readonly from: string;
  readonly to: string;
  readonly port: number | string;
  readonly protocol: PolicyProtocol;
  readonly ingress: 'allow' | 'deny';
  readonly egress: 'allow' | 'deny';
  readonly verdict: 'allow' | 'deny';
  readonly reason: string;
}

export function simulateProbes(model: PolicyModel, probes: Iterable<Probe>): SimulatedFlow[] {
  return Array.from(probes, (probe) => {
    const judgement = model.judge(probe);
    return {
      from: probe.asked?.from ?? partyName(probe.from),
      to: probe.asked?.to ?? partyName(probe.to),
      port: probe.asked?.port ?? probe.port,
      protocol: probe.protocol,
      ingress: judgement.ingress.verdict,
      egress: judgement.egress.verdict,
      verdict: judgement.verdict,
      reason: reasonOf(probe, judgement),
    };
  });
}

/** How many probes the whole matrix is. */
export function matrixSize(workloads: readonly PolicyWorkload[]): number {
  return workloads.length * workloads.reduce((sum, { ports }) => sum + ports.length, 0);
}

/** From each workload to every declared port of every workload, itself too. */
export function* matrix(workloads: readonly PolicyWorkload[]): Generator<Probe> {
  for (const from of workloads) {
    for (const to of workloads) {
      for (const { port, protocol } of to.ports) yield { from: { kind: 'workload', workload: from }, to: { kind: 'workload', workload: to }, port, protocol };
    }
  }
}
