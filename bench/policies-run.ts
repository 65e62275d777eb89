/** One run of policies.ts, in a network namespace of its own: compiles and writes 1,000 policies over 1,000 workloads, changes labels, and prints how long each took. */
import { z } from 'zod';
import { kernelCompiler, type KernelState } from '../src/compile/kernel.ts';
import { readConnections } from '../src/drivers/conntrack-list.ts';
import { openIpset } from '../src/drivers/ipset.ts';
import { openIptables } from '../src/drivers/iptables.ts';
import { cidr, fromNumber, ipv4, toNumber } from '../src/model/address.ts';
import type { Desired } from '../src/model/observed.ts';
import { nativePolicy } from '../src/model/policy-form.ts';
import { recordKey } from '../src/model/record.ts';
import { aPolicy, aWorkload, desired, node } from '../test/compile/state.ts';
import { median } from './figures.ts';

export const policyTimes = z.strictObject({ compileMs: z.number(), applyMs: z.number(), labelMs: z.number() });

const WORKLOADS = 1000;
const POLICIES = 1000;
/** Each selects one of so many groups, so each workload is selected by POLICIES / GROUPS = 50. */
const GROUPS = 20;
const ROLES = 100;
const CHANGES = 30;

if (import.meta.main) {
  const compiler = kernelCompiler({ ...node, subnet: cidr.parse('10.200.0.0/16') });
  const drivers = { iptables: openIptables({ backend: 'nft' }), ipset: openIpset() };
  let state = initial();
  const beganMs = performance.now();
  let kernel = compiler.compile(state, () => []);
  const compiledMs = performance.now();
  await apply(kernel);
  const appliedMs = performance.now();
  const labelMs: number[] = [];
  for (let number = 0; number < CHANGES; number += 1) {
    state = relabelled(state, number);
    const changedMs = performance.now();
    kernel = compiler.compile(state, () => []);
    await apply(kernel);
    // As the agent does before it says that the change is enforced.
    await readConnections();
    labelMs.push(performance.now() - changedMs);
    // Old sets are destroyed later, and after the answer: here they go with the namespace.
  }
  await drivers.iptables.close();
  process.stdout.write(JSON.stringify({ compileMs: compiledMs - beganMs, applyMs: appliedMs - compiledMs, labelMs: median(labelMs) } satisfies z.infer<typeof policyTimes>));

  async function apply({ ipsets, iptables }: KernelState): Promise<void> {
    await drivers.ipset.apply(ipsets);
    await drivers.iptables.apply(iptables);
  }
}

function initial(): Desired {
  const first = toNumber(ipv4.parse('10.200.4.0'));
  const workloads = Array.from({ length: WORKLOADS }, (_, number) =>
    aWorkload({
      // Spread over the first digits, as random ids are.
      id: ((number * 2_654_435_761) >>> 0).toString(16).padStart(8, '0'),
      name: `w${number}`,
      labels: labelsOf(number, 0),
      ip: fromNumber(first + number),
    }),
  );
  const policies = Array.from({ length: POLICIES }, (_, number) => {
    const ingress = [{ port: 8000 + (number % 500), from: { selector: { role: `r${number % ROLES}` } } }, { port: 9000, from: { cidr: `10.${number % 250}.0.0/16` } }];
    const egress = [{ to: { selector: { role: `r${(number + 7) % ROLES}` } } }];
    const { name, mode = 'enforce', ...form } = nativePolicy.parse({ name: `p${number}`, selector: { group: `g${number % GROUPS}` }, ingress, egress });
    return aPolicy({ ...form, name, mode });
  });
  return desired({ workloads, policies });
}

function labelsOf(number: number, moved: number): Record<string, string> {
  return { group: `g${(number + moved) % GROUPS}`, role: `r${(number + moved) % ROLES}` };
}

/** Another workload each time gets another group and role: other chains lead to it, and two sets change. */
function relabelled(state: Desired, number: number): Desired {
  const workload = [...state.workloads.values()][(number * 37) % WORKLOADS];
  if (workload === undefined) throw new Error('there is no such workload');
  const changed = { ...workload, labels: labelsOf(number * 37, number + 1) };
  return { ...state, workloads: new Map([...state.workloads, [recordKey('workloads', changed), changed]]), workloadGeneration: state.workloadGeneration + 1 };
}
