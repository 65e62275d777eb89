/** Decides whether a connection may come into being, and by which policy and rule. Pure. */
import { selects } from '../model/label-selector.ts';
import type { Direction, PolicyRule } from '../model/policy.ts';
import { DNS_PORT, type Flow, type NamespaceLabels, type Party, type PolicyParts, type PolicyWorkload } from './parties.ts';
import { portsMatch, someoneMatches } from './peer.ts';

export type Verdict = 'allow' | 'deny';

/** What one end's policies say of a connection. */
export interface Judgement {
  readonly verdict: Verdict;
  /**
   * `self`: a workload always reaches itself; `outside`: this end is no workload, so no policy selects it; `local`: the node's own
   * processes reach its workloads; `node`: no native policy speaks of the way to the node; `open`: no policy selects it;
   * `resolver`: who may go anywhere may ask for names; `rule`: the named one allows it; `isolated`: no rule does.
   */
  readonly because: 'self' | 'outside' | 'local' | 'node' | 'open' | 'resolver' | 'rule' | 'isolated';
  /** With `rule`: the policy and the index of its rule. */
  readonly allowedBy?: { readonly policy: PolicyParts; readonly rule: number };
  /** Enforced policies that select this end in this direction. */
  readonly isolating: readonly PolicyParts[];
  /** Audited policies that would have denied it, had they been enforced. */
  readonly wouldDeny: readonly PolicyParts[];
}

export interface FlowJudgement {
  readonly verdict: Verdict;
  readonly egress: Judgement;
  readonly ingress: Judgement;
}

export interface PolicyModel {
  /** Both ends: the source's egress and the destination's ingress must allow. */
  judge(flow: Flow): FlowJudgement;
  /** The policies, audited ones too, that select a workload in a direction. */
  selecting(workload: PolicyWorkload, direction: Direction): readonly PolicyParts[];
}

export interface PolicyModelInput {
  readonly policies: Iterable<PolicyParts>;
  readonly namespaces: NamespaceLabels;
}

export function policyModel({ policies, namespaces }: PolicyModelInput): PolicyModel {
  const byNamespace = Map.groupBy(policies, (policy) => policy.namespace);
  const known = new WeakMap<PolicyWorkload, readonly PolicyParts[]>();

  const allSelecting = (workload: PolicyWorkload): readonly PolicyParts[] => {
    const found = known.get(workload) ?? (byNamespace.get(workload.namespace) ?? []).filter((policy) => selects(policy.selector, workload.labels));
    known.set(workload, found);
    return found;
  };
  const selecting = (workload: PolicyWorkload, direction: Direction): readonly PolicyParts[] => allSelecting(workload).filter((policy) => policy[direction] !== undefined);

  const judgeEnd = (flow: Flow, direction: Direction): Judgement => {
    const own = direction === 'egress' ? flow.from : flow.to;
    const peer = direction === 'egress' ? flow.to : flow.from;
    if (own.kind !== 'workload') return unasked('outside');
    if (direction === 'ingress' && peer.kind === 'host') return unasked('local');
    const all = selecting(own.workload, direction);
    const enforced = all.filter(({ mode }) => mode === 'enforce');
    const now = decide(enforced, { flow, direction, peer });
    const audited = all.filter(({ mode }) => mode === 'audit');
    const wouldDeny = now.verdict === 'allow' && audited.length > 0 && decide(all, { flow, direction, peer }).verdict === 'deny' ? audited : [];
    return { ...now, isolating: enforced, wouldDeny };
  };

  const decide = (isolating: readonly PolicyParts[], { flow, direction, peer }: Asked): Pick<Judgement, 'verdict' | 'because' | 'allowedBy'> => {
    if (isolating.length === 0) return { verdict: 'allow', because: 'open' };
    if (peer.kind === 'host') {
      const native = isolating.filter(({ origin }) => origin === 'native');
      // As in Kubernetes, where a pod's way to its own node is nobody's affair.
      if (native.length === 0) return { verdict: 'allow', because: 'node' };
      if (isResolver(flow) && native.some((policy) => (policy[direction] ?? []).length > 0)) return { verdict: 'allow', because: 'resolver' };
    }
    for (const policy of isolating) {
      const rule = (policy[direction] ?? []).findIndex((candidate) => ruleAllows(candidate, { flow, peer, policy }));
      if (rule !== -1) return { verdict: 'allow', because: 'rule', allowedBy: { policy, rule } };
    }
    return { verdict: 'deny', because: 'isolated' };
  };

  const ruleAllows = (rule: PolicyRule, { flow, peer, policy }: { flow: Flow; peer: Party; policy: PolicyParts }): boolean =>
    portsMatch(rule, flow) && someoneMatches(rule.peers, peer, { policy, namespaces });

  return {
    selecting,
    judge: (flow) => {
      if (isSelf(flow)) return { verdict: 'allow', egress: unasked('self'), ingress: unasked('self') };
      const egress = judgeEnd(flow, 'egress');
      const ingress = judgeEnd(flow, 'ingress');
      return { verdict: egress.verdict === 'allow' && ingress.verdict === 'allow' ? 'allow' : 'deny', egress, ingress };
    },
  };
}

interface Asked {
  readonly flow: Flow;
  readonly direction: Direction;
  readonly peer: Party;
}

function unasked(because: 'self' | 'outside' | 'local'): Judgement {
  return { verdict: 'allow', because, isolating: [], wouldDeny: [] };
}

function isSelf({ from, to }: Flow): boolean {
  return from.kind === 'workload' && to.kind === 'workload' && from.workload.namespace === to.workload.namespace && from.workload.name === to.workload.name;
}

function isResolver({ port, protocol }: Flow): boolean {
  return port === DNS_PORT && protocol !== 'sctp';
}
