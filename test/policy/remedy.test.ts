/** Remedies: whatever network.explain proposes is carried out on the model, which then says the opposite. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { readSimulation } from '../../src/managers/simulation.ts';
import { policyModel } from '../../src/policy/evaluate.ts';
import type { Flow, Party, PolicyParts } from '../../src/policy/parties.ts';
import { remedyFor, type Remedy } from '../../src/policy/remedy.ts';
import { simulateInput } from '../../tools/reach.ts';
import { judge } from './ask.ts';

const labels = fc.dictionary(fc.constantFrom('app', 'tier'), fc.constantFrom('a', 'b'), { maxKeys: 2 });
const peer = fc.oneof(fc.record({ selector: labels }), fc.record({ namespaceSelector: labels }), fc.constantFrom({ cidr: '10.0.0.0/8' }, { cidr: '0.0.0.0/0', except: ['10.0.0.0/9'] }, { entity: 'host' as const }));
const port = fc.constantFrom({}, { port: 80 }, { port: 53, protocol: 'udp' as const }, { port: 79, endPort: 81 });
const rules = (side: 'from' | 'to') => fc.array(fc.tuple(port, fc.option(peer, { nil: undefined })).map(([ports, one]) => ({ ...ports, ...(one === undefined ? {} : { [side]: one }) })), { maxLength: 3 });
const policy = fc.record({ namespace: fc.constantFrom('default', 'shop'), selector: labels, ingress: rules('from'), egress: rules('to'), mode: fc.constantFrom('enforce', 'audit') }, { requiredKeys: ['namespace', 'selector'] });
const workload = fc.record({ namespace: fc.constantFrom('default', 'shop'), labels });
const state = fc.record({ policies: fc.array(policy, { maxLength: 4 }), workloads: fc.tuple(workload, workload) });
const end = fc.constantFrom('first', 'second', 'entity:ingress', 'entity:host', '192.0.2.7');
const question = fc.record({ from: end, to: end, port: fc.constantFrom(53, 80, 81), protocol: fc.constantFrom('tcp' as const, 'udp' as const) });

test('what is proposed turns the verdict round, and nothing is proposed only where no policy could', () => {
  let flipped = 0;
  fc.assert(
    fc.property(state, question, (given, asked) => {
      const workloads = given.workloads.map((one, index) => ({ ...one, name: ['first', 'second'][index] ?? '', ip: `10.200.1.${index + 2}` }));
      const named = (text: string): string => given.workloads.map(({ namespace }, index) => (text === ['first', 'second'][index] ? `${namespace}/${text}` : '')).find((name) => name !== '') ?? text;
      if (asked.to === 'entity:ingress') return;
      const probe = { ...asked, from: named(asked.from), to: named(asked.to) };
      const policies = given.policies.map((form, index) => ({ ...form, name: `p${index}` }));
      const { model, probes: [flow] = [] } = readSimulation(simulateInput.parse({ policies, workloads, probes: [probe] }));
      assert.ok(flow !== undefined);
      const before = [...model.policies];
      const judgement = policyModel({ ...model, policies: before }).judge(flow);
      const remedy = remedyFor(flow, judgement, model.namespaces);
      if (remedy === undefined) {
        const neither = flow.from.kind !== 'workload' && (flow.to.kind !== 'workload' || flow.from.kind === 'host');
        assert.ok(judgement.verdict === 'allow' && (neither || judgement.egress.because === 'self'), JSON.stringify(probe));
        return;
      }
      const after = policyModel({ ...model, policies: withRemedy(before, remedy) }).judge(relabelled(flow, remedy));
      assert.notEqual(after.verdict, judgement.verdict, remedy.text);
      flipped += 1;
    }),
    { numRuns: 3000 },
  );
  assert.ok(flipped > 1000, `${flipped} verdicts were turned round`);
});

test('the remedy for a database names the workload by its labels, and leaves what is there', () => {
  const given = {
    workloads: [{ name: 'web', labels: { app: 'web' } }, { name: 'db', labels: { app: 'db' } }],
    policies: [{ name: 'db', selector: { app: 'db' }, ingress: [{ port: 5432, from: { selector: { app: 'api' } } }] }],
  };
  const { model, probes: [flow] = [] } = readSimulation(simulateInput.parse({ ...given, probes: [{ from: 'web', to: 'db', port: 5432 }] }));
  assert.ok(flow !== undefined);
  const remedy = remedyFor(flow, judge(given, 'web -> db tcp/5432'), model.namespaces);
  assert.equal(remedy?.text, 'add to the ingress of policy default/db: tcp 5432 from workloads with app=web');
  assert.equal(remedy.policies[0]?.policy.ingress?.length, 2);
});

function withRemedy(before: readonly PolicyParts[], { policies }: Remedy): PolicyParts[] {
  const changed = policies.map(({ policy: one }) => one);
  const isChanged = ({ namespace, name }: PolicyParts): boolean => changed.some((one) => one.namespace === namespace && one.name === name);
  return [...before.filter((one) => !isChanged(one)), ...changed];
}

/** Workloads that had no labels have been given one. */
function relabelled(flow: Flow, { labelled }: Remedy): Flow {
  const given = (party: Party): Party => {
    if (party.kind !== 'workload') return party;
    const change = labelled.find(({ workload: { name } }) => name === party.workload.name);
    return change === undefined ? party : { kind: 'workload', workload: { ...party.workload, labels: change.labels } };
  };
  return { ...flow, from: given(flow.from), to: given(flow.to) };
}
