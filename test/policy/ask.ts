/** Asks the model over objects given in a test: `web -> db tcp/5432`. Goes the way of network.simulate, without an agent. */
import assert from 'node:assert/strict';
import type { z } from 'zod';
import { readSimulation } from '../../src/managers/simulation.ts';
import { policyModel, type FlowJudgement } from '../../src/policy/evaluate.ts';
import { matrix, simulateProbes, type Probe, type SimulatedFlow } from '../../src/policy/simulate.ts';
import { simulateInput } from '../../tools/reach.ts';

export type Given = z.input<typeof simulateInput>;

/** `default/` may be left out, and `tcp/` too. */
export function ask(given: Given, question: string): SimulatedFlow {
  const { model, probes = [] } = read(given, [question]);
  const [answer] = simulateProbes(policyModel(model), probes);
  assert.ok(answer !== undefined);
  return answer;
}

export function judge(given: Given, question: string): FlowJudgement {
  const { model, probes: [probe] = [] } = read(given, [question]);
  assert.ok(probe !== undefined);
  return policyModel(model).judge(probe);
}

export function simulate(given: Given): SimulatedFlow[] {
  const { model, workloads, probes } = readSimulation(simulateInput.parse(given));
  return simulateProbes(policyModel(model), probes ?? matrix(workloads));
}

/** Which of them are let pass; the others are not. */
export function allowed(given: Given, questions: readonly string[]): string[] {
  const { model, probes = [] } = read(given, questions);
  const results = simulateProbes(policyModel(model), probes);
  return questions.filter((_, index) => results[index]?.verdict === 'allow');
}

/** A Kubernetes object around a spec, in the namespace default. */
export function kubernetes(spec: Record<string, unknown>, metadata: Record<string, unknown> = {}): Record<string, unknown> {
  return { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name: 'p', ...metadata }, spec };
}

function read(given: Given, questions: readonly string[]): { model: ReturnType<typeof readSimulation>['model']; probes?: readonly Probe[] } {
  const probes = questions.map((question) => {
    const [, from = '', to = '', protocol, port = ''] = /^(\S+) -> (\S+) (?:(tcp|udp|sctp)\/)?(\S+)$/.exec(question) ?? [];
    return { from, to, port: /^\d+$/.test(port) ? Number(port) : port, protocol };
  });
  return readSimulation(simulateInput.parse({ ...given, probes }));
}
