/**
 * The model of network policies against the kernel: random labels, ports and policies, brought there by the agent's commands; what
 * network.simulate says of every pair, protocol and port against an attempt with real packets. `POLICY_RANDOM_MS` gives it longer,
 * `POLICY_RANDOM_SEED` begins where a failure did.
 */
import { strict as assert } from 'node:assert';
import { after, before, test } from 'node:test';
import * as fc from 'fast-check';
import { z } from 'zod';
import { run } from '../../src/drivers/exec.ts';
import { buildOutside, closeEverything, openTestAgent, type TestAgent } from './agent-fixture.ts';
import { randomStates } from './matrix-random.ts';
import { PROTOCOLS } from './matrix-workload.ts';
import { openMatrix, REFUSED, WORKLOADS, type Cell, type Matrix, type MatrixState } from './matrix.ts';
import { enterNamespace } from './namespace.ts';

const SERVED = [80, 81, 82, 8080];
const DURATION_MS = Number(process.env['POLICY_RANDOM_MS'] ?? 15_000);
/** However slow the machine is, so many states must be asked about. */
const FEWEST_STATES = 20;
/** More than the fastest machine gets through meanwhile. */
const MOST_STATES = FEWEST_STATES + Math.ceil(DURATION_MS / 20);
const KEYS = WORKLOADS.map(({ namespace, name }) => `${namespace}/${name}`);
const answer = z.object({ results: z.array(z.object({ verdict: z.enum(['allow', 'deny']), ingress: z.string(), egress: z.string(), reason: z.string() })) });
let agent: TestAgent;
let matrix: Matrix;
let outside: string;

before(async () => {
  await enterNamespace();
  const far = await buildOutside();
  outside = far.ip;
  await far.serve('far', SERVED.flatMap((port) => [`tcp:${port}`, `udp:${port}`]));
  agent = await openTestAgent();
  matrix = await openMatrix(agent, { served: SERVED, others: [{ name: 'far', ip: far.ip }] });
});

after(async () => {
  await matrix.close();
  await closeEverything();
});

test('every verdict of the model is what packets meet, in random states', { timeout: 10 * 60_000 }, async (context) => {
  const given = process.env['POLICY_RANDOM_SEED'];
  const seed = given === undefined ? Math.trunc(Math.random() * 2 ** 31) : Number(given);
  context.diagnostic(`POLICY_RANDOM_SEED=${seed}`);
  const seen = { states: 0, cells: 0, ingressDenied: 0, egressDenied: 0 };
  const cells = cellsOfMatrix();
  const startedAt = performance.now();
  let failed = false;
  const agree = fc.asyncProperty(randomStates(SERVED, [...matrix.ips.values()]), async (state) => {
    // What failed is made smaller however long that takes; else there is an end.
    if (!failed && seen.states >= FEWEST_STATES && performance.now() - startedAt > DURATION_MS) return;
    await forgetConnections();
    await matrix.become(state);
    const found = await matrix.probe(cells);
    const { results } = answer.parse(await agent.invoke('network.simulate', question(state, cells)));
    assert.equal(results.length, cells.length);
    const differing = cells.flatMap(({ from, to, protocol, port }, index) => {
      const { verdict, reason } = results[index] ?? assert.fail('no verdict');
      return found[index] === (verdict === 'allow' ? 'answered' : REFUSED[protocol]) ? [] : [`${from} -> ${to} ${protocol}/${port}: ${found[index]}, but the model says ${verdict}: ${reason}`];
    });
    failed ||= differing.length > 0;
    assert.equal(differing.slice(0, 10).join('\n'), '', `${differing.length} of ${cells.length} cells differ`);
    seen.states += 1;
    seen.cells += cells.length;
    seen.ingressDenied += results.filter(({ ingress }) => ingress === 'deny').length;
    seen.egressDenied += results.filter(({ egress }) => egress === 'deny').length;
  });
  await fc.assert(agree, { seed, numRuns: MOST_STATES });
  context.diagnostic(`${JSON.stringify(seen)} in ${((performance.now() - startedAt) / 1000).toFixed(1)} s`);
  assert.ok(seen.ingressDenied > seen.cells / 20 && seen.egressDenied > seen.cells / 20, `hardly anything is denied: ${JSON.stringify(seen)}`);
  assert.ok(seen.ingressDenied < seen.cells / 1.5 && seen.egressDenied < seen.cells / 1.5, `hardly anything is allowed: ${JSON.stringify(seen)}`);
});

/** Everyone to everyone and to the outside, where nobody answers SCTP. */
function cellsOfMatrix(): Cell[] {
  return KEYS.flatMap((from) =>
    SERVED.flatMap((port) => PROTOCOLS.flatMap((protocol) => [...KEYS, ...(protocol === 'sctp' ? [] : ['far'])].map((to) => ({ from, to, protocol, port })))),
  );
}

function question({ namespaces, workloads, policies }: MatrixState, cells: readonly Cell[]): object {
  return {
    namespaces: Object.entries(namespaces).map(([name, labels]) => ({ name, labels })),
    workloads: WORKLOADS.map(({ namespace, name }) => ({ namespace, name, ip: matrix.ips.get(`${namespace}/${name}`), ...workloads[`${namespace}/${name}`] })),
    policies,
    probes: cells.map((cell) => ({ ...cell, to: cell.to === 'far' ? outside : cell.to })),
  };
}

/** What was open before is cut where it is forbidden now, one by one; that is not what is asked here, and takes its time. */
async function forgetConnections(): Promise<void> {
  for (const protocol of ['udp', 'sctp']) await run(['conntrack', '-D', '-p', protocol], { okExitCodes: [0, 1] });
}
