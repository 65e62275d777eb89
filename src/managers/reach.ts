/** Who may reach whom: simulations over objects that are given, and explanations of what is stored. Reads only. */
import type { Explain, Simulate } from '../../tools/reach.ts';
import { explain } from './explain.ts';
import { probe } from './probe.ts';
import { simulate } from './simulation.ts';
import type { World } from './world.ts';

export function reachManager(world: World) {
  return {
    explain: (input: Explain) => explain(world, input),

    probe: (input: Explain, signal: AbortSignal) => probe(world, input, signal),

    simulate: async (input: Simulate) => ({ answer: { results: await simulate(input) } }),
  };
}
