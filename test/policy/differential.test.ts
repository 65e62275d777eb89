/** The model against the oracle: every cell of random states. `POLICY_RANDOM_MS` gives it longer, `POLICY_RANDOM_SEED` begins where a failure did. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { readSimulation } from '../../src/managers/simulation.ts';
import { policyModel } from '../../src/policy/evaluate.ts';
import { simulateProbes } from '../../src/policy/simulate.ts';
import { simulateInput } from '../../tools/reach.ts';
import { oracle } from './oracle.ts';
import { probesOf, randomState } from './random.ts';

const DURATION_MS = Number(process.env['POLICY_RANDOM_MS'] ?? 5000);
/** However slow the machine is, so many states must be asked about. */
const FEWEST_STATES = 20;

test('the model and the oracle agree on every cell of random states', (context) => {
  const given = process.env['POLICY_RANDOM_SEED'];
  const seen = { states: 0, cells: 0, ingressDenied: 0, egressDenied: 0 };
  const agree = fc.property(randomState, (state) => {
    const { namespaces, workloads, policies } = state;
    const input = simulateInput.parse({ namespaces, workloads, policies, probes: probesOf(state) });
    const probes = input.probes ?? [];
    const { model, probes: read = [] } = readSimulation(input);
    const results = simulateProbes(policyModel(model), read);
    const expected = oracle(input, probes);
    assert.equal(results.length, probes.length);
    for (const [index, { from, to, port, protocol, ingress, egress, verdict }] of results.entries()) {
      const wanted = expected[index];
      const cell = `${from} -> ${to} ${protocol}/${port}`;
      assert.equal(`${cell}: ingress ${ingress}, egress ${egress}, ${verdict}`, `${cell}: ingress ${word(wanted?.ingress)}, egress ${word(wanted?.egress)}, ${word(wanted?.ingress === true && wanted.egress)}`);
      seen.ingressDenied += ingress === 'deny' ? 1 : 0;
      seen.egressDenied += egress === 'deny' ? 1 : 0;
    }
    seen.states += 1;
    seen.cells += results.length;
  });
  fc.assert(agree, { numRuns: Number.MAX_SAFE_INTEGER, interruptAfterTimeLimit: DURATION_MS, ...(given === undefined ? {} : { seed: Number(given) }) });
  context.diagnostic(JSON.stringify(seen));
  assert.ok(seen.states >= FEWEST_STATES, `only ${seen.states} states in ${DURATION_MS} ms`);
  assert.ok(seen.ingressDenied > seen.cells / 20 && seen.egressDenied > seen.cells / 20, `hardly anything is denied: ${JSON.stringify(seen)}`);
  assert.ok(seen.ingressDenied < seen.cells / 2 && seen.egressDenied < seen.cells / 2, `hardly anything is allowed: ${JSON.stringify(seen)}`);
});

function word(allowed: boolean | undefined): string {
  return allowed === true ? 'allow' : 'deny';
}
