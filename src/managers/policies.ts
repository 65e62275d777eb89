/** Network policies: their invariants and their store writes. Never programs anything. */
import type { CreatePolicy, UpdatePolicy } from '../../tools/policy.ts';
import { ClawError } from '../errors.ts';
import { parsePolicyForm, policyForm, selectorForm } from '../interop/native-policy.ts';
import { selects } from '../model/label-selector.ts';
import type { Policy } from '../model/policy.ts';
import type { PolicyParts } from '../policy/parties.ts';
import { recordKey, type Named } from '../model/record.ts';
import { page } from './paging.ts';
import { createRecord, deleteRecord, replaceRecord, requireRecord, requireRoom, type Change } from './records.ts';
import type { World } from './world.ts';

const MISSING = { code: 'POLICY_NOT_FOUND', listWith: 'network.policy.list' } as const;

export function policyManager(world: World) {
  const find = (input: Named): Policy => requireRecord(world.desired.policies, recordKey('policies', input), MISSING);

  return {
    create: async ({ namespace, name, mode = 'enforce', ...form }: CreatePolicy) => {
      const parts = parsePolicyForm(form);
      const { answer, revision } = await world.mutate(() => {
        const key = recordKey('policies', { namespace, name });
        if (world.desired.policies.has(key)) {
          throw new ClawError('POLICY_EXISTS', `network policy ${namespace}/${name} exists already`, { path: 'name', hint: 'network.policy.update changes it; network.policy.delete removes it.' });
        }
        const { policy, ...change } = newPolicy(world, { namespace, name, origin: 'native', ...parts, mode });
        return { ...change, answer: policy };
      });
      return { answer: written(world, answer), revision };
    },

    update: async ({ namespace, name, ...input }: UpdatePolicy) => {
      const { answer, revision } = await world.mutate(() => {
        const { ingress, egress, ...old } = find({ namespace, name });
        const parts = parsePolicyForm({ selector: input.selector ?? undefined, ingress: input.ingress ?? undefined, egress: input.egress ?? undefined });
        const updated: Policy = {
          ...old,
          selector: input.selector === undefined ? old.selector : parts.selector,
          mode: input.mode === undefined ? old.mode : (input.mode ?? 'enforce'),
          ...direction('ingress', { old: ingress, given: input.ingress, parsed: parts.ingress }),
          ...direction('egress', { old: egress, given: input.egress, parsed: parts.egress }),
        };
        return { ...replaceRecord(world, recordKey('policies', { namespace, name }), updated), answer: updated };
      });
      return { answer: written(world, answer), revision };
    },

    delete: async (input: Named) => {
      const { revision } = await world.mutate(() => {
        find(input);
        return { ...deleteRecord(world, recordKey('policies', input)), answer: undefined };
      });
      return { answer: { namespace: input.namespace, name: input.name, deleted: true as const }, revision };
    },

    get: async (input: Named) => {
      const policy = find(input);
      const { namespace, name, mode, origin, createdAt } = policy;
      return { answer: { namespace, name, ...policyForm(policy), mode, origin, selected: selected(world, policy), createdAt }, revision: world.desired.revision };
    },

    list: async (input: { limit: number; cursor?: string | undefined; namespace?: string | undefined }) => {
      const { items, ...paging } = page(world.desired.policies, input);
      const { kernel } = world.health();
      const policies = items.map((policy) => ({
        namespace: policy.namespace,
        name: policy.name,
        selector: selectorForm(policy.selector),
        ingressRules: policy.ingress?.length ?? null,
        egressRules: policy.egress?.length ?? null,
        mode: policy.mode,
        selected: selected(world, policy),
        createdAt: policy.createdAt,
      }));
      const reason = kernel.reason === undefined ? {} : { reason: kernel.reason };
      return { answer: { ...paging, policies, enforcement: { active: kernel.inSync, iptablesAvailable: kernel.inSync, ...reason } } };
    },
  };
}

/** A policy that is not there yet, and the writes that make it. */
export function newPolicy(world: World, parts: PolicyParts): Change & { readonly policy: Policy } {
  requireRoom(world.desired.policies, 'policies');
  const policy: Policy = { v: 1, createdAt: world.now().toISOString(), ...parts };
  return { ...createRecord(world, recordKey('policies', parts), policy), policy };
}

/** An absent direction stays, a null one goes, a given one replaces the whole old one. */
function direction<Key extends 'ingress' | 'egress'>(key: Key, { old, given, parsed }: { old: Policy[Key]; given: unknown; parsed: Policy[Key] }) {
  const rules = given === undefined ? old : parsed;
  return rules === undefined ? {} : { [key]: rules };
}

function written(world: World, policy: Policy) {
  return { namespace: policy.namespace, name: policy.name, success: true as const, selected: selected(world, policy), warnings: warnings(world, policy) };
}

function selected(world: World, policy: Pick<Policy, 'namespace' | 'selector'>): number {
  let count = 0;
  for (const workload of world.desired.workloads.values()) if (workload.namespace === policy.namespace && selects(policy.selector, workload.labels)) count += 1;
  return count;
}

/** What is allowed and may be meant, but isolates nobody. */
function warnings(world: World, policy: Policy): string[] {
  if (policy.ingress === undefined && policy.egress === undefined) return ['it has neither ingress nor egress: it isolates nothing'];
  return selected(world, policy) === 0 ? [`it selects no workload of namespace ${policy.namespace} yet`] : [];
}
