/** More of the same situations: egress, ranges of addresses, several policies at once, and what must not be taken for something else. */
import type { GivenPolicy } from './matrix.ts';
import type { Situation } from './kubernetes-situations.ts';

const NAME = 'kubernetes.io/metadata.name';
const A = { pod: 'a' };
const A_OF = (namespace: string): object => ({ namespaceSelector: { [NAME]: namespace }, selector: A });
const TO_X_DENIED = ['deny * -> x/*'];
/** The /4 that holds the addresses of all workloads. */
const AROUND = '0.0.0.0/4';

function inX(name: string, policy: Readonly<Record<string, unknown>>): GivenPolicy {
  return { namespace: 'x', name, ...policy };
}

export const EGRESS: readonly Situation[] = [
  { name: 'should deny egress from pods based on PodSelector', steps: [{ policies: [inX('a-nowhere', { selector: A, egress: [] })], expect: { 'tcp/80': ['deny x/a -> *'] } }] },
  { name: 'should deny egress from all pods in a namespace', steps: [{ policies: [inX('nowhere', { egress: [] })], expect: { 'tcp/80': ['deny x/* -> *'] } }] },
  {
    name: 'should work with Ingress, Egress specified together',
    steps: [
      {
        policies: [inX('both', { selector: A, ingress: [{ from: { selector: { pod: 'b' } } }], egress: [{ port: 80 }] })],
        expect: { 'tcp/80': ['deny * -> x/a', 'allow x/b -> x/a'], 'tcp/81': ['deny * -> x/a', 'deny x/a -> *', 'allow x/b -> x/a'] },
      },
    ],
  },
  {
    name: 'should support denying of egress traffic on the client side (even if the server explicitly allows this traffic)',
    steps: [
      {
        policies: [
          inX('to-a-of-y', { selector: A, egress: [{ to: A_OF('y') }] }),
          { namespace: 'y', name: 'a-from-a-of-x', selector: A, ingress: [{ from: A_OF('x') }] },
          { namespace: 'y', name: 'b-from-a-of-x', selector: { pod: 'b' }, ingress: [{ from: A_OF('x') }] },
        ],
        expect: { 'tcp/80': ['deny x/a -> *', 'deny * -> y/a', 'deny * -> y/b', 'allow x/a -> y/a'] },
      },
    ],
  },
  {
    name: 'should enforce egress policy allowing traffic to a server in a different namespace based on PodSelector and NamespaceSelector',
    steps: [{ policies: [inX('to-a-of-y', { selector: A, egress: [{ to: A_OF('y') }] })], expect: { 'tcp/80': ['deny x/a -> *', 'allow x/a -> y/a'] } }],
  },
  {
    name: 'should enforce ingress policy allowing any port traffic to a server on a specific protocol',
    steps: [{ policies: [inX('tcp-only', { selector: A, ingress: [{ protocol: 'tcp' }] })], expect: { 'tcp/80': [], 'udp/80': ['deny * -> x/a'] } }],
  },
  {
    name: 'should enforce multiple ingress policies with ingress allow-all policy taking precedence',
    steps: [
      { policies: [inX('only-80', { ingress: [{ port: 80 }] })], expect: { 'tcp/81': TO_X_DENIED } },
      { policies: [inX('only-80', { ingress: [{ port: 80 }] }), inX('all', { ingress: [{}] })], expect: { 'tcp/81': [] } },
    ],
  },
  {
    name: 'should enforce multiple egress policies with egress allow-all policy taking precedence',
    steps: [
      { policies: [inX('only-80', { egress: [{ port: 80 }] })], expect: { 'tcp/81': ['deny x/* -> *'] } },
      { policies: [inX('only-80', { egress: [{ port: 80 }] }), inX('all', { egress: [{}] })], expect: { 'tcp/81': [] } },
    ],
  },
  {
    name: 'should stop enforcing policies after they are deleted',
    steps: [
      { policies: [inX('deny-all', { ingress: [], egress: [] })], expect: { 'tcp/80': [...TO_X_DENIED, 'deny x/* -> *'] } },
      { policies: [], expect: { 'tcp/80': [] } },
    ],
  },
  {
    name: 'should allow egress access to server in CIDR block',
    steps: [{ policies: [inX('to-one-address', { selector: A, egress: [{ to: { cidr: '{y/b}/32' } }] })], expect: { 'tcp/80': ['deny x/a -> *', 'allow x/a -> y/b'] } }],
  },
  {
    name: 'should enforce except clause while egress access to server in CIDR block',
    steps: [{ policies: [inX('to-all-but-one', { selector: A, egress: [{ to: { cidr: AROUND, except: ['{x/b}/32'] } }] })], expect: { 'tcp/80': ['deny x/a -> x/b'] } }],
  },
  {
    name: 'should ensure an IP overlapping both IPBlock.CIDR and IPBlock.Except is allowed',
    steps: [
      { policies: [inX('changing', { selector: A, egress: [{ to: { cidr: AROUND, except: ['{x/b}/32'] } }] })], expect: { 'tcp/80': ['deny x/a -> x/b'] } },
      { policies: [inX('changing', { selector: A, egress: [{ to: { cidr: '{x/b}/32' } }] })], expect: { 'tcp/80': ['deny x/a -> *', 'allow x/a -> x/b'] } },
    ],
  },
  {
    name: 'should enforce policies to check ingress and egress policies can be controlled independently based on PodSelector',
    steps: [
      { policies: [inX('to-all', { selector: A, egress: [{}] })], expect: { 'tcp/80': [] } },
      { policies: [inX('to-all', { selector: A, egress: [{}] }), inX('from-nobody', { selector: A, ingress: [] })], expect: { 'tcp/80': ['deny * -> x/a'] } },
    ],
  },
  {
    name: "should not mistakenly treat 'protocol: SCTP' as 'protocol: TCP', even if the plugin doesn't support SCTP",
    steps: [{ policies: [inX('deny-ingress', { ingress: [] }), inX('sctp-81', { selector: A, ingress: [{ port: 81, protocol: 'sctp' }] })], expect: { 'tcp/81': TO_X_DENIED } }],
  },
  {
    name: "should properly isolate pods that are selected by a policy allowing SCTP, even if the plugin doesn't support SCTP",
    steps: [{ policies: [inX('sctp-80', { selector: A, ingress: [{ port: 80, protocol: 'sctp' }] })], expect: { 'tcp/81': ['deny * -> x/a'] } }],
  },
  {
    name: 'should not allow access by TCP when a policy specifies only UDP',
    steps: [{ policies: [inX('udp-81', { selector: A, ingress: [{ port: 81, protocol: 'udp' }] })], expect: { 'tcp/81': ['deny * -> x/a'] } }],
  },
  {
    name: 'should enforce policy to allow traffic based on NamespaceSelector with MatchLabels using default ns label',
    steps: [{ policies: [inX('from-y', { selector: A, ingress: [{ from: { namespaceSelector: { [NAME]: 'y' } } }] })], expect: { 'tcp/80': ['deny x/* -> x/a', 'deny z/* -> x/a'] } }],
  },
  {
    name: 'should enforce policy based on NamespaceSelector with MatchExpressions using default ns label',
    steps: [
      {
        policies: [inX('not-to-y', { selector: A, egress: [{ to: { namespaceSelector: { matchExpressions: [{ key: NAME, operator: 'NotIn', values: ['y'] }] } } }] })],
        expect: { 'tcp/80': ['deny x/a -> y/*'] },
      },
    ],
  },
];

/** Not theirs: what their API has and their tests leave to others. */
export const BEYOND: readonly Situation[] = [
  {
    name: 'ranges of ports up to endPort, in both directions',
    steps: [
      { policies: [inX('from-81', { ingress: [{ port: 81, endPort: 82 }] })], expect: { 'tcp/80': TO_X_DENIED, 'tcp/81': [], 'tcp/82': [], 'udp/81': TO_X_DENIED } },
      { policies: [inX('to-81', { egress: [{ port: 80, endPort: 81, protocol: 'sctp' }] })], expect: { 'sctp/80': [], 'sctp/81': [], 'sctp/82': ['deny x/* -> *'], 'tcp/81': ['deny x/* -> *'] } },
    ],
  },
  {
    name: 'an exception of one range does not carve out another, and exceptions do not apply to each other',
    steps: [
      {
        policies: [inX('ranges', { selector: A, ingress: [{ from: [{ cidr: AROUND, except: ['{y/b}/32', '{y/c}/32'] }, { cidr: '{y/b}/32' }] }] })],
        expect: { 'tcp/80': ['deny y/c -> x/a'] },
      },
      { policies: [inX('ranges', { selector: A, ingress: [{ from: { cidr: '0.0.0.0/0', except: [AROUND] } }] })], expect: { 'tcp/80': ['deny * -> x/a'] } },
    ],
  },
  {
    name: 'NotIn holds for who lacks the label, and a policy in audit mode isolates nobody',
    steps: [
      { policies: [inX('not-odd', { selector: A, ingress: [{ from: { selector: { matchExpressions: [{ key: 'odd', operator: 'NotIn', values: ['yes'] }] } } }] })], labels: { 'x/b': { odd: 'yes' } }, expect: { 'tcp/80': ['deny * -> x/a', 'allow x/c -> x/a'] } },
      { policies: [inX('not-odd', { selector: A, ingress: [], mode: 'audit' })], expect: { 'tcp/80': [] } },
    ],
  },
];
