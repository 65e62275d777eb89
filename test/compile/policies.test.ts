/** What policies become in the kernel: chains, sets and rules as text, and that a compile step by step gives what one at once gives. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { withoutHoles } from '../../src/compile/cidr-holes.ts';
import { compileKernel, kernelCompiler } from '../../src/compile/kernel.ts';
import { cidr, contains, fromNumber, ipv4 } from '../../src/model/address.ts';
import type { Desired } from '../../src/model/observed.ts';
import { namespace as namespaceRecord } from '../../src/model/namespace.ts';
import type { Policy } from '../../src/model/policy.ts';
import { nativePolicy } from '../../src/model/policy-form.ts';
import { recordKey } from '../../src/model/record.ts';
import type { Workload } from '../../src/model/workload.ts';
import { assertGolden } from './golden.ts';
import { aPolicy, asText, aWorkload, desired, node } from './state.ts';

const noEndpoints = (): [] => [];

const api = aWorkload({ name: 'api', id: '0000000a', ip: '10.200.1.2', labels: { app: 'api' } });
const db = aWorkload({ name: 'db', id: '1000000b', ip: '10.200.1.3', labels: { app: 'db' }, ports: [{ name: 'pg', port: 5432 }] });
const elsewhere = aWorkload({ name: 'web', id: '2000000c', ip: '10.200.2.4', labels: { app: 'web' }, node: 'node-b', namespace: 'shop', ports: [{ name: 'pg', port: 7000 }] });

function policy(form: Record<string, unknown>): Policy {
  const { namespace, name, mode = 'enforce', ...rest } = nativePolicy.parse({ name: 'p', ...form });
  return aPolicy({ namespace, name, mode, ...rest });
}

/** The chains of policies and the sets, as text; the skeleton is compared elsewhere. */
function compiled(policies: readonly Policy[], workloads: readonly Workload[] = [api, db, elsewhere]): string {
  const { iptables, ipsets } = compileKernel(node, desired({ workloads, policies }), noEndpoints);
  const rules = asText(iptables)
    .split('\n')
    .filter((line) => /^-A CLAW-(P[AIEH]+-|DENY|AUDIT)|-g CLAW-P/.test(line));
  const sets = ipsets.filter(({ name }) => name.startsWith('CLAW-N-')).map(({ name, create, members }) => `create ${name} ${create}: ${[...members].toSorted().join(' ')}`);
  return `${[...rules, ...sets].join('\n')}\n`;
}

test('a database that only the API may reach, and that reaches nothing', async () => {
  await assertGolden('policy-database', compiled([policy({ name: 'db', selector: { app: 'db' }, ingress: [{ port: 5432, from: { selector: { app: 'api' } } }], egress: [] })]));
});

test('ranges with holes, several ports, names on both ends, other namespaces, the node, everything', async () => {
  const ingress = [
    { ports: [{ port: 80 }, { port: 443 }, { port: 8000, endPort: 8080 }, { protocol: 'udp' }], from: [{ cidr: '10.0.0.0/8', except: ['10.1.0.0/16'] }, { cidr: '192.0.2.7/32' }] },
    { port: 'pg', from: { namespaceSelector: {} } },
    { from: [{ cidr: '0.0.0.0/0' }] },
  ];
  const egress = [{ port: 'pg', to: { namespaceSelector: { 'kubernetes.io/metadata.name': 'shop' } } }, { port: 53, protocol: 'udp', to: { entity: 'host' } }, { protocol: 'sctp' }];
  await assertGolden('policy-forms', compiled([policy({ selector: { app: 'db' }, ingress, egress })]));
});

test('audit alone lets everything pass and tells; beside an enforced policy it asks what that allows', async () => {
  const audit = policy({ name: 'audit', mode: 'audit', ingress: [] });
  const enforced = policy({ name: 'enforced', selector: { app: 'db' }, ingress: [{ from: { selector: { app: 'api' } } }] });
  await assertGolden('policy-audit', compiled([audit, enforced]));
});

test('imported policies leave the way to the node open; workloads with equal policies share their chains', () => {
  const deny = { selector: {}, ingress: [], egress: [] };
  const imported = compiled([aPolicy({ ...deny, origin: 'kubernetes' })], [api, db]);
  assert.doesNotMatch(imported, /CLAW-PH-/);
  assert.match(compiled([aPolicy(deny)], [api, db]), /CLAW-PH-/);
  assert.equal(new Set(imported.match(/CLAW-PE-\w+/g)).size, 1);
});

test('a named port of the node is not that of everyone', () => {
  const named = (name: string, to?: { entity: 'host' }): Policy => policy({ name, selector: { app: name }, egress: [{ port: 'pg', ...(to === undefined ? {} : { to }) }] });
  const toEveryone = named('api');
  const toNode = named('db', { entity: 'host' });
  for (const policies of [[toEveryone, toNode], [toNode, toEveryone]]) {
    const text = compiled(policies);
    const chain = /-i clawv1000000b -g (CLAW-PE-\w+)/.exec(text)?.[1] ?? assert.fail(text);
    assert.deepEqual(text.split('\n').filter((line) => line.startsWith(`-A ${chain} `)), [`-A ${chain} -g CLAW-DENY-EGRESS`]);
  }
});

test('a range without its holes holds each address that is in the range and in no hole, once', () => {
  const range = fc.tuple(fc.integer({ min: 0, max: 0xffffffff }), fc.integer({ min: 0, max: 32 })).map(([base, bits]) => cidr.parse(`${fromNumber(bits === 0 ? 0 : (base & (-1 << (32 - bits))) >>> 0)}/${bits}`));
  fc.assert(
    fc.property(range, fc.array(range, { maxLength: 4 }), fc.integer({ min: 0, max: 0xffffffff }), (block, except, number) => {
      const ip = ipv4.parse(fromNumber(number));
      const left = withoutHoles({ cidr: block, except });
      const wanted = contains(block, ip) && !except.some((hole) => contains(hole, ip));
      assert.equal(left.filter((part) => contains(part, ip)).length, wanted ? 1 : 0);
    }),
  );
});

const label = fc.dictionary(fc.constantFrom('app', 'tier'), fc.constantFrom('a', 'b', 'c'), { maxKeys: 2 });
const selector = fc.oneof(label, fc.constant({ matchExpressions: [{ key: 'tier', operator: 'NotIn' as const, values: ['b'] }] }));
const peer = fc.oneof(
  fc.record({ selector }),
  fc.record({ namespaceSelector: fc.oneof(fc.constant({}), fc.constant({ team: 'red' })) }),
  fc.constantFrom({ cidr: '10.200.0.0/16', except: ['10.200.1.0/26'] }, { entity: 'host' as const }),
);
const ruleOf = (side: 'from' | 'to') => fc.record({ [side]: fc.array(peer, { minLength: 1, maxLength: 2 }), port: fc.constantFrom(80, 'http') }, { requiredKeys: [] });
const policyForm = fc.record({ selector, mode: fc.constantFrom('enforce', 'audit'), ingress: fc.array(ruleOf('from'), { maxLength: 2 }), egress: fc.array(ruleOf('to'), { maxLength: 2 }) }, { requiredKeys: ['selector'] });

const step = fc.oneof(
  fc.record({ kind: fc.constant('workload' as const), index: fc.nat(5), labels: label, gone: fc.boolean(), port: fc.constantFrom(80, 81) }),
  fc.record({ kind: fc.constant('policy' as const), index: fc.nat(3), form: policyForm, gone: fc.boolean() }),
  fc.record({ kind: fc.constant('namespace' as const), name: fc.constantFrom('default', 'shop'), team: fc.constantFrom('red', 'blue') }),
);
type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never;

test('step by step the compiler comes to the very same as from the last state alone', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 25 }), (steps) => {
      const compiler = kernelCompiler(node);
      let state = desired({});
      for (const next of steps) {
        state = taken(state, next);
        const inSteps = compiler.compile(state, noEndpoints);
        const atOnce = compileKernel(node, state, noEndpoints);
        assert.equal(asText(inSteps.iptables), asText(atOnce.iptables));
        assert.deepEqual(inSteps.ipsets, atOnce.ipsets);
      }
    }),
    { numRuns: 60 },
  );
});

function taken(state: Desired, next: Step): Desired {
  const [workloads, policies, namespaces] = [new Map(state.workloads), new Map(state.policies), new Map(state.namespaces)];
  if (next.kind === 'workload') {
    const namespace = next.index % 2 === 0 ? 'default' : 'shop';
    const { index } = next;
    const workload = aWorkload({ name: `w${index}`, namespace, id: `${index}000000a`, ip: `10.200.1.${60 + index}`, labels: next.labels, node: index === 5 ? 'node-b' : 'node-a', ports: [{ name: 'http', port: next.port }] });
    if (next.gone) workloads.delete(recordKey('workloads', workload));
    else workloads.set(recordKey('workloads', workload), workload);
  } else if (next.kind === 'policy') {
    const made = policy({ name: `p${next.index}`, namespace: next.index % 2 === 0 ? 'default' : 'shop', ...next.form });
    if (next.gone) policies.delete(recordKey('policies', made));
    else policies.set(recordKey('policies', made), made);
  } else {
    namespaces.set(`namespaces/${next.name}`, namespaceRecord.parse({ v: 1, createdAt: '2026-01-01T00:00:00.000Z', name: next.name, labels: { team: next.team } }));
  }
  return { ...state, workloads, policies, namespaces, workloadGeneration: state.workloadGeneration + 1, policyGeneration: state.policyGeneration + 1 };
}
