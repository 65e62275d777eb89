/** What the kernel holds of ours, read independently of the program's own drivers, in a form that two moments can be compared in. */
import { run } from '../../src/drivers/exec.ts';

export interface Kernel {
  /** `table chain` to the rules in their order, for our chains; for foreign chains only the rules of ours. */
  readonly rules: Readonly<Record<string, readonly string[]>>;
  readonly sets: readonly string[];
  readonly interfaces: readonly string[];
  readonly netns: readonly string[];
  readonly routes: readonly string[];
}

export async function readKernel(): Promise<Kernel> {
  const outputs = [['iptables-save'], ['ipset', 'save'], ['ip', '-o', 'link'], ['ip', 'netns'], ['ip', '-4', 'route', 'show', 'table', 'all']] as const;
  const [rules = '', sets = '', links = '', netns = '', routes = ''] = await Promise.all(outputs.map(async (argv) => (await run(argv)).stdout));
  return {
    rules: rulesOf(rules),
    // A set's hash seed differs with every creation.
    sets: linesOf(sets.replaceAll(/ initval \S+/g, '')).toSorted(),
    interfaces: [...links.matchAll(/^\d+: (clawv[0-9a-f]+)@/gm)].map(([, name = '']) => name).toSorted(),
    netns: linesOf(netns).map((line) => line.split(' ', 1)[0] ?? '').toSorted(),
    routes: linesOf(routes).filter((line) => line.includes('proto 201')).toSorted(),
  };
}

/** Takes every rule and chain of ours away behind the agent's back; foreign ones stay. */
export async function removeOurRules(): Promise<void> {
  const { stdout } = await run(['iptables-save']);
  const foreign = linesOf(stdout).filter((line) => !/CLAW-|^#/.test(line));
  await run(['iptables-restore'], { input: `${foreign.join('\n')}\n` });
}

/** The virtual IPs that the dispatch tree leads to an endpoint; one twice of which a rule stands there twice. */
export function dispatchedVips({ rules }: Kernel): string[] {
  const leaves = Object.entries(rules).flatMap(([chain, lines]) => (chain.startsWith('nat CLAW-VIP-') ? lines.filter((line) => / -d \S+\/32 /.test(line)) : []));
  const twice = leaves.filter((line, index) => leaves.indexOf(line) !== index);
  const vipOf = (line: string): string => / -d (\S+)\/32 /.exec(line)?.[1] ?? '';
  return [...new Set(leaves.map(vipOf)), ...twice.map(vipOf)].toSorted();
}

/** The addresses that are routed to workloads, each as often as there is a route. */
export function routedIps({ routes }: Kernel): string[] {
  return routes.flatMap((route) => /^(\S+) dev clawv/.exec(route)?.[1] ?? []).toSorted();
}

function rulesOf(save: string): Record<string, string[]> {
  const rules: Record<string, string[]> = {};
  let table = '';
  for (const line of linesOf(save)) {
    if (line.startsWith('*')) table = line.slice(1);
    const [kind, chain = ''] = line.split(' ');
    if (kind?.startsWith(':CLAW-')) rules[`${table} ${kind.slice(1)}`] ??= [];
    if (kind === '-A' && line.includes('CLAW-')) (rules[`${table} ${chain}`] ??= []).push(line);
  }
  return rules;
}

function linesOf(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}
