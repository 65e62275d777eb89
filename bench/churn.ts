/** A day's worth of changes squeezed: random creates, updates and deletes against a real agent and a model, compared at the end. Runs in namespaces of its own. */
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { churn, emptyModel, randomOperations, type Invoke } from '../test/e2e/fixture-churn.ts';
import { differencesFrom, readKernel } from '../test/e2e/fixture-churn-end.ts';
import { isRestore, listProcesses } from '../test/e2e/fixture-processes.ts';
import { addNetns, residentMemory, RUNS_PROCESSES, startAgent } from './agent.ts';
import { short, type Figure } from './figures.ts';

const SIZES = { services: 400, ingresses: 20, workloads: 4 };
/** Memory is compared from here on: before, the agent has not met most of what it does. */
const WARM_PART = 0.2;
const SETTLE_MS = 2000;

export async function soakChurn(count: number, seed: number): Promise<Figure[]> {
  await addNetns('churn');
  const agent = await startAgent({ netns: 'churn', config: { ...RUNS_PROCESSES, routeForeign: true } });
  const invoke: Invoke = (command, params) => agent.invoke(z.unknown(), command, params);
  const model = emptyModel();
  const operations = randomOperations(count, { sizes: SIZES, seed });
  const beganMs = performance.now();
  const memory: number[] = [];
  const parts = Math.round(1 / WARM_PART);
  for (let part = 0; part < parts; part += 1) {
    const until = part === parts - 1 ? count : Math.floor(((part + 1) * count) / parts);
    await churn(operations.slice(Math.floor((part * count) / parts), until), { invoke, model });
    memory.push(await residentMemory(agent.pid));
    process.stderr.write(`  ${until} of ${count}: ${short(memory.at(-1) ?? 0)} MB, ${model.surprises.length} surprises\n`);
  }
  const seconds = (performance.now() - beganMs) / 1000;
  await delay(SETTLE_MS);
  const enter = ['ip', 'netns', 'exec', 'churn'];
  const differences = await differencesFrom(model, { invoke, kernel: await readKernel(enter) });
  const restores = (await listProcesses()).filter(isRestore).length;
  await agent.stop();
  const none = (what: string, found: readonly string[], otherwise: string): Figure => ({
    what,
    measured: found.length === 0 ? otherwise : found.slice(0, 5).join('; '),
    value: found.length,
    atMost: 0,
  });
  const left = `${model.services.size} services, ${model.ingresses.size} ingresses, ${model.workloads.size} workloads in the end`;
  return [
    { what: 'operations', measured: `${Object.entries(model.done).map(([what, times]) => `${what} ${times}`).join(', ')} in ${seconds.toFixed(0)} s`, value: count },
    none('answers that must not be', model.surprises, 'each as the model says'),
    none('differences of answers and kernel from the model', differences, left),
    { what: 'restore processes', measured: 'living in the end', value: restores, atMost: 1 },
    { what: 'memory in the end / after a fifth', measured: `${memory.map((mb) => mb.toFixed(0)).join(', ')} MB`, value: (memory.at(-1) ?? NaN) / (memory[0] ?? NaN), atMost: 1.3 },
  ];
}
