/** The form in which people and agents write policies, as zod schemas; `interop/native-policy.ts` turns it into the stored one. */
import { z } from 'zod';
import { cidr, port } from './address.ts';
import { labelSelector } from './label-selector.ts';
import { labels, name, namespaceName, portName } from './name.ts';
import { entity, policyMode, policyProtocol } from './policy.ts';

/** `{app: "db"}`, or with matchLabels and matchExpressions. */
export const selectorForm = z.union([labels, labelSelector]).meta({ brief: true, type: 'object' });
export type SelectorForm = z.output<typeof selectorForm>;

const portForm = {
  port: z.union([port, portName], { error: 'a port is a number from 1 to 65535 or the name of a workload port' }).optional(),
  endPort: port.optional(),
  protocol: policyProtocol.optional(),
};

const peerFields = {
  cidr: cidr.optional(),
  except: z.array(cidr).max(256).optional(),
  selector: selectorForm.optional(),
  namespaceSelector: selectorForm.optional(),
  entity: entity.optional(),
};

/** One of: `cidr` (with `except`), `selector` and/or `namespaceSelector`, `entity`. */
export const peerForm = z.strictObject(peerFields).superRefine((given, context) => {
  const kinds = [given.cidr, given.selector ?? given.namespaceSelector, given.entity].filter((part) => part !== undefined);
  if (kinds.length === 1 && (given.except === undefined || given.cidr !== undefined)) return;
  const message = kinds.length > 1 ? 'a peer is a cidr, or selectors, or an entity: give several peers as a list' : 'a peer needs a cidr, a selector, a namespaceSelector or an entity; leave it out for everyone';
  context.addIssue({ code: 'custom', path: given.except !== undefined && kinds.length === 1 ? ['except'] : [], message: given.except !== undefined && given.cidr === undefined ? 'except goes with cidr' : message, input: given });
});
export type PeerForm = z.output<typeof peerForm>;

const peersForm = z.union([peerForm, z.array(peerForm).min(1).max(256)]).meta({
  type: ['object', 'array'],
  brief: 'One or a list of {cidr, except}, {selector, namespaceSelector}, {entity: host or ingress}; left out: everyone',
});

const ruleFields = { ...portForm, ports: z.array(z.strictObject(portForm)).min(1).max(256).meta({ brief: true }).optional() };

export const ingressRuleForm = z.strictObject({ ...ruleFields, from: peersForm.optional() });
export const egressRuleForm = z.strictObject({ ...ruleFields, to: peersForm.optional() });
export type RuleForm = Omit<z.output<typeof ingressRuleForm>, 'from'> & { readonly peers?: PeerForm | readonly PeerForm[] | undefined };

export const rulesForm = {
  ingress: z.array(ingressRuleForm).max(256),
  egress: z.array(egressRuleForm).max(256),
};
/** A whole policy; what a direction is left out of is not isolated in it. */
export const nativePolicy = z.strictObject({
  namespace: namespaceName,
  name,
  selector: selectorForm.optional(),
  ingress: rulesForm.ingress.optional(),
  egress: rulesForm.egress.optional(),
  mode: policyMode.optional(),
});
export type IngressRuleForm = z.output<typeof ingressRuleForm>;
export type EgressRuleForm = z.output<typeof egressRuleForm>;
