/** Some hundred random changes of services, ingresses and workloads against a model; in the end kernel and answers hold what the model says. */
import { strict as assert } from 'node:assert';
import { after, before, test } from 'node:test';
import { churn, emptyModel, randomOperations, type Invoke } from '../e2e/fixture-churn.ts';
import { differencesFrom, readKernel } from '../e2e/fixture-churn-end.ts';
import { closeEverything, openTestAgent, until, type TestAgent } from './agent-fixture.ts';
import { enterNamespace } from './namespace.ts';

// The seed is told, so that a failure can be sought again with the same changes: CLAWNODE_TEST_SEED=...
const seed = Number(process.env['CLAWNODE_TEST_SEED'] ?? Date.now() % 1_000_000_000);
const SIZES = { services: 60, ingresses: 6, workloads: 3 };
let agent: TestAgent;

before(async () => {
  await enterNamespace();
  agent = await openTestAgent({ routeForeign: true });
});

after(closeEverything);

test('600 random changes: every answer is the expected one, and kernel, lists and allocations are those of the model', async (t) => {
  t.diagnostic(`seed ${seed}`);
  const model = emptyModel();
  const invoke: Invoke = (command, params) => agent.invoke(command, params);
  await churn(randomOperations(600, { sizes: SIZES, seed }), { invoke, model });
  assert.deepEqual(model.surprises, [], `seed ${seed}`);
  // Some of every kind was done, and some refused.
  for (const what of ['service.create', 'service.update', 'service.delete', 'ingress.create', 'refused']) assert.ok((model.done[what] ?? 0) > 0, what);
  await until(`kernel and answers are those of the model, seed ${seed}`, async () => {
    assert.deepEqual(await differencesFrom(model, { invoke, kernel: await readKernel() }), []);
  });

  const [name, service] = [...model.services].find(([, { endpoints = [] }]) => endpoints.length > 0) ?? [];
  assert.ok(name !== undefined && service !== undefined);
  model.services.set(name, { ...service, endpoints: [{ ip: '192.0.2.1', port: 1 }] });
  const differences = await differencesFrom(model, { invoke, kernel: await readKernel() });
  assert.ok(differences.some((line) => line.startsWith('nat lacks')), 'one endpoint that differs is found');
});
