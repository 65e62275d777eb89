/**
 * The situations of Kubernetes' own end-to-end tests of network policies (test/e2e/network/netpol), by their names, as rows of ours: which
 * policies, and who then reaches whom. The pods of theirs are the workloads of the matrix, each with its name as label `pod`.
 */
import type { GivenPolicy } from './matrix.ts';

export interface Situation {
  readonly name: string;
  /** One after the other; each says the whole. */
  readonly steps: readonly Step[];
}

export interface Step {
  /** `{x/b}` in it stands for the address of that workload. */
  readonly policies: readonly GivenPolicy[];
  /** Beyond those that everyone has, by namespace or workload. */
  readonly labels?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** By protocol and port: what differs from everyone reaching everyone. The last line that means a pair counts. */
  readonly expect: Readonly<Record<string, readonly string[]>>;
}

const NAME = 'kubernetes.io/metadata.name';
const IN_Y = { namespaceSelector: { [NAME]: 'y' } };
const OUTSIDE_X = { matchExpressions: [{ key: NAME, operator: 'NotIn', values: ['x'] }] };
const A = { pod: 'a' };
const B = { selector: { pod: 'b' } };
/** Y may connect to x/a, X and Z may not. */
const ONLY_Y_TO_A = ['deny * -> x/a', 'allow y/* -> x/a'];

/** A policy of namespace x. */
function inX(name: string, policy: Readonly<Record<string, unknown>>): GivenPolicy {
  return { namespace: 'x', name, ...policy };
}

const DENY_INGRESS = inX('deny-ingress', { ingress: [] });
const DENY_ALL = inX('deny-all', { ingress: [], egress: [] });
const TO_X_DENIED = ['deny * -> x/*'];

export const TCP: readonly Situation[] = [
  { name: "should support a 'default-deny-ingress' policy", steps: [{ policies: [DENY_INGRESS], expect: { 'tcp/80': TO_X_DENIED } }] },
  { name: "should support a 'default-deny-all' policy", steps: [{ policies: [DENY_ALL], expect: { 'tcp/80': [...TO_X_DENIED, 'deny x/* -> *'] } }] },
  {
    name: 'should enforce policy to allow traffic from pods within server namespace based on PodSelector',
    steps: [{ policies: [inX('a-from-b', { selector: A, ingress: [{ from: B }] })], expect: { 'tcp/80': ['deny * -> x/a', 'allow x/b -> x/a'] } }],
  },
  {
    name: 'should enforce policy to allow ingress traffic for a target',
    steps: [
      {
        policies: [DENY_INGRESS, inX('everyone-to-a', { selector: A, ingress: [{ from: { selector: {}, namespaceSelector: {} } }] })],
        expect: { 'tcp/80': [...TO_X_DENIED, 'allow * -> x/a'] },
      },
    ],
  },
  {
    name: 'should enforce policy to allow ingress traffic from pods in all namespaces',
    steps: [{ policies: [inX('any-namespace', { selector: A, ingress: [{ from: { namespaceSelector: {} } }] })], expect: { 'tcp/80': [] } }],
  },
  {
    name: 'should enforce policy to allow traffic only from a different namespace, based on NamespaceSelector',
    steps: [{ policies: [inX('from-y', { selector: A, ingress: [{ from: IN_Y }] })], expect: { 'tcp/80': ONLY_Y_TO_A } }],
  },
  {
    name: 'should enforce policy based on PodSelector with MatchExpressions',
    steps: [
      {
        policies: [inX('a-from-b', { selector: A, ingress: [{ from: { selector: { matchExpressions: [{ key: 'pod', operator: 'In', values: ['b'] }] } } }] })],
        expect: { 'tcp/80': ['deny * -> x/a', 'allow x/b -> x/a'] },
      },
    ],
  },
  {
    name: 'should enforce policy based on NamespaceSelector with MatchExpressions',
    steps: [
      {
        policies: [inX('from-y', { selector: A, ingress: [{ from: { namespaceSelector: { matchExpressions: [{ key: NAME, operator: 'In', values: ['y'] }] } } }] })],
        expect: { 'tcp/80': ONLY_Y_TO_A },
      },
    ],
  },
  {
    name: 'should enforce policy based on PodSelector or NamespaceSelector',
    steps: [{ policies: [inX('b-or-others', { selector: A, ingress: [{ from: [{ namespaceSelector: OUTSIDE_X }, B] }] })], expect: { 'tcp/80': ['deny x/c -> x/a'] } }],
  },
  {
    name: 'should enforce policy based on PodSelector and NamespaceSelector',
    steps: [
      {
        policies: [inX('b-of-others', { selector: A, ingress: [{ from: { namespaceSelector: OUTSIDE_X, ...B } }] })],
        expect: { 'tcp/80': ['deny * -> x/a', 'allow y/b -> x/a', 'allow z/b -> x/a'] },
      },
    ],
  },
  {
    name: 'should enforce policy based on Multiple PodSelectors and NamespaceSelectors',
    steps: [
      {
        policies: [inX('b-and-c-of-others', { selector: A, ingress: [{ from: { namespaceSelector: OUTSIDE_X, selector: { matchExpressions: [{ key: 'pod', operator: 'In', values: ['b', 'c'] }] } } }] })],
        expect: { 'tcp/80': ['deny x/* -> x/a', 'deny y/a -> x/a', 'deny z/a -> x/a'] },
      },
    ],
  },
  {
    name: 'should enforce policy based on any PodSelectors',
    steps: [
      {
        policies: [inX('b-or-c', { selector: A, ingress: [{ from: [B, { selector: { pod: 'c' } }] }] })],
        expect: { 'tcp/80': ['deny * -> x/a', 'allow x/b -> x/a', 'allow x/c -> x/a'] },
      },
    ],
  },
  {
    name: 'should enforce policy to allow traffic only from a pod in a different namespace based on PodSelector and NamespaceSelector',
    steps: [{ policies: [inX('a-of-y', { selector: A, ingress: [{ from: { ...IN_Y, selector: A } }] })], expect: { 'tcp/80': ['deny * -> x/a', 'allow y/a -> x/a'] } }],
  },
  {
    name: 'should enforce policy based on Ports',
    steps: [{ policies: [inX('from-y-on-81', { selector: A, ingress: [{ from: IN_Y, port: 81 }] })], expect: { 'tcp/81': ONLY_Y_TO_A } }],
  },
  {
    name: 'should enforce multiple, stacked policies with overlapping podSelectors',
    steps: [
      { policies: [inX('from-y-on-81', { selector: A, ingress: [{ from: IN_Y, port: 81 }] })], expect: { 'tcp/81': ONLY_Y_TO_A, 'tcp/80': ['deny * -> x/a'] } },
      {
        policies: [inX('from-y-on-81', { selector: A, ingress: [{ from: IN_Y, port: 81 }] }), inX('from-y-on-80', { selector: A, ingress: [{ from: IN_Y, port: 80 }] })],
        expect: { 'tcp/80': ONLY_Y_TO_A },
      },
    ],
  },
  { name: 'should support allow-all policy', steps: [{ policies: [inX('allow-all', { selector: {}, ingress: [{}] })], expect: { 'tcp/80': [], 'tcp/81': [] } }] },
  {
    name: 'should allow ingress access on one named port',
    steps: [{ policies: [inX('only-81', { ingress: [{ port: 'serve-81-tcp' }] })], expect: { 'tcp/81': [], 'tcp/80': TO_X_DENIED } }],
  },
  {
    name: 'should allow ingress access from namespace on one named port',
    steps: [{ policies: [inX('from-y-on-80', { selector: A, ingress: [{ from: IN_Y, port: 'serve-80-tcp', protocol: 'tcp' }] })], expect: { 'tcp/80': ONLY_Y_TO_A, 'tcp/81': ['deny * -> x/a'] } }],
  },
  {
    name: 'should allow egress access on one named port',
    steps: [{ policies: [inX('only-80', { egress: [{ port: 'serve-80-tcp' }] })], expect: { 'tcp/80': [], 'tcp/81': ['deny x/* -> *'] } }],
  },
  {
    name: 'should enforce updated policy',
    steps: [
      { policies: [inX('changing', { ingress: [{}] })], expect: { 'tcp/81': [] } },
      { policies: [inX('changing', { ingress: [] })], expect: { 'tcp/81': TO_X_DENIED } },
    ],
  },
  {
    name: 'should allow ingress access from updated namespace',
    steps: [
      { policies: [inX('from-updated', { selector: A, ingress: [{ from: { namespaceSelector: { ns2: 'updated' } } }] })], expect: { 'tcp/80': ['deny * -> x/a'] } },
      {
        policies: [inX('from-updated', { selector: A, ingress: [{ from: { namespaceSelector: { ns2: 'updated' } } }] })],
        labels: { y: { ns2: 'updated' } },
        expect: { 'tcp/80': ONLY_Y_TO_A },
      },
    ],
  },
  {
    name: 'should allow ingress access from updated pod',
    steps: [
      { policies: [inX('from-updated', { selector: A, ingress: [{ from: { selector: { pod: 'b', pod2: 'updated' } } }] })], expect: { 'tcp/80': ['deny * -> x/a'] } },
      {
        policies: [inX('from-updated', { selector: A, ingress: [{ from: { selector: { pod: 'b', pod2: 'updated' } } }] })],
        labels: { 'x/b': { pod2: 'updated' } },
        expect: { 'tcp/80': ['deny * -> x/a', 'allow x/b -> x/a'] },
      },
    ],
  },
  {
    name: 'should deny ingress from pods on other namespaces',
    steps: [{ policies: [inX('own-namespace', { ingress: [{ from: { selector: {} } }] })], expect: { 'tcp/80': [...TO_X_DENIED, 'allow x/* -> x/*'] } }],
  },
  {
    name: 'should deny ingress access to updated pod',
    steps: [
      { policies: [inX('isolated', { selector: { target: 'isolated' }, ingress: [] })], expect: { 'tcp/80': [] } },
      { policies: [inX('isolated', { selector: { target: 'isolated' }, ingress: [] })], labels: { 'x/a': { target: 'isolated' } }, expect: { 'tcp/80': ['deny * -> x/a'] } },
    ],
  },
];

/** The same three over UDP and over SCTP. */
export function overOther(protocol: 'udp' | 'sctp'): readonly Situation[] {
  return [
    { name: "should support a 'default-deny-ingress' policy", steps: [{ policies: [DENY_INGRESS], expect: { [`${protocol}/80`]: TO_X_DENIED } }] },
    {
      name: 'should enforce policy based on Ports',
      steps: [{ policies: [inX('from-y-on-81', { selector: A, ingress: [{ from: IN_Y, port: 81, protocol }] })], expect: { [`${protocol}/81`]: ONLY_Y_TO_A, [`${protocol}/80`]: ['deny * -> x/a'] } }],
    },
    {
      name: 'should enforce policy to allow traffic only from a pod in a different namespace based on PodSelector and NamespaceSelector',
      steps: [{ policies: [inX('a-of-y', { selector: A, ingress: [{ from: { ...IN_Y, selector: A } }] })], expect: { [`${protocol}/80`]: ['deny * -> x/a', 'allow y/a -> x/a'] } }],
    },
  ];
}
