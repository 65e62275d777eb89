/** Who may reach whom: simulations over objects that are given, and explanations of what is stored. Reads only. */
import type { Explain, Simulate } from '../../tools/reach.ts';
import { ClawError } from '../errors.ts';
import { policyModel } from '../policy/evaluate.ts';
import { matrix, matrixSize, simulateProbes } from '../policy/simulate.ts';
import { explain } from './explain.ts';
import { probe } from './probe.ts';
import { readSimulation } from './simulation.ts';
import type { World } from './world.ts';

/** Answers larger than that help nobody. */
const MOST_RESULTS = 250_000;

export function reachManager(world: World) {
  return {
    explain: (input: Explain) => explain(world, input),

    probe: (input: Explain, signal: AbortSignal) => probe(world, input, signal),

    simulate: async (input: Simulate) => {
      const { model: parts, workloads, probes } = readSimulation(input);
      if (probes === undefined && matrixSize(workloads) > MOST_RESULTS) {
        throw new ClawError('LIMIT_EXCEEDED', `the whole matrix has ${matrixSize(workloads)} answers, and ${MOST_RESULTS} is the most`, { path: 'workloads', hint: 'Ask with probes, or with fewer workloads.' });
      }
      return { answer: { results: simulateProbes(policyModel(parts), probes ?? matrix(workloads)) } };
    },
  };
}
