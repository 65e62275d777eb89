/** `clawnode status`: how the node is, for people, or the agent's `network.status` as it is with `--json`. */
import { z } from 'zod';
import { agentSocketPath, connectAgent, connectUsualAgent } from '../agent-client.ts';
import { table } from './table.ts';
import { parseArguments, UsageError, type Subcommand } from './usage.ts';

export const status: Subcommand = {
  help: `Usage: clawnode status [--json]
       clawnode status --ready SECONDS

Shows how the node is: what needs attention, whether the kernel holds what was asked for, where the ingress listens, workloads by
state, addresses and tracked connections in use, services. With --json the answer of network.status as it is. With --ready it only waits
until an agent answers, at most so many seconds, and shows nothing.

Exit code: 0 in order; 1 when the kernel is not in sync, the ingress does not run, or no agent answers.
`,
  run: async (argv) => {
    const { values } = parseArguments({ args: argv, options: { json: { type: 'boolean', default: false }, ready: { type: 'string' } } });
    if (values.ready !== undefined) return await waitUntilReady(values.ready);
    const agent = connectUsualAgent({ surface: 'cli' });
    const answer = await agent.invoke('network.status', {}, new AbortController().signal);
    const view = statusView.parse(answer);
    process.stdout.write(values.json ? `${JSON.stringify(answer, null, 2)}\n` : statusText(view, agent.socketPath));
    return view.kernel.inSync && !isDown(view.ingress) ? 0 : 1;
  },
};

async function waitUntilReady(seconds: string): Promise<number> {
  if (!/^\d{1,4}$/.test(seconds)) throw new UsageError(`--ready ${seconds} is no number of seconds`);
  await connectAgent(agentSocketPath(), { restartWaitMs: Number(seconds) * 1000 }).health(new AbortController().signal);
  return 0;
}

const pool = z.looseObject({ used: z.number(), free: z.number(), quarantined: z.number() });

/** The part of `network.status` that is shown; what later versions add is passed over. */
const statusView = z.looseObject({
  node: z.string(),
  mode: z.string(),
  version: z.string(),
  serviceDiscovery: z.looseObject({
    serviceCount: z.number(),
    services: z.array(
      z.looseObject({ name: z.string(), namespace: z.string().optional(), clusterIp: z.string(), port: z.number(), endpoints: z.number(), healthy: z.number() }),
    ),
  }),
  allocator: z.looseObject({ stats: z.looseObject({ clusterIps: pool, workloadIps: pool }) }),
  workloads: z.record(z.string(), z.number()),
  conntrack: z.looseObject({ entries: z.number(), maximum: z.number() }).nullable(),
  kernel: z.looseObject({ inSync: z.boolean(), backend: z.string(), revision: z.number(), reason: z.string().optional() }),
  ingress: z.looseObject({ port: z.number(), running: z.boolean(), published: z.string().optional(), reason: z.string().optional() }),
  drift: z.looseObject({ repairs: z.number(), lastRepairAt: z.string().optional(), last: z.string().optional() }),
  metrics: z.looseObject({ url: z.string().optional(), failure: z.string().optional() }),
  warnings: z.array(z.string()),
});

type StatusView = z.output<typeof statusView>;

/** The proxy of an agent that has just started is not there yet, which is nothing wrong. */
function isDown({ running, reason }: StatusView['ingress']): boolean {
  return !running && reason !== undefined;
}

function statusText(view: StatusView, socketPath: string): string {
  const { node, mode, version, serviceDiscovery, workloads, allocator, conntrack, kernel, ingress, drift, metrics, warnings } = view;
  const facts = table([
    ['node', node],
    ['mode', mode],
    ['agent', `clawnode ${version} on ${socketPath}`],
    ['kernel', kernelText(kernel)],
    ['ingress', ingressText(ingress)],
    ...(drift.repairs === 0 ? [] : [['drift', driftText(drift)]]),
    ['workloads', workloadsText(workloads)],
    ['cluster IPs', poolText(allocator.stats.clusterIps)],
    ['workload IPs', poolText(allocator.stats.workloadIps)],
    ['connections', conntrack === null ? 'none tracked' : `${conntrack.entries} of ${conntrack.maximum} tracked`],
    ['metrics', metrics.url ?? (metrics.failure === undefined ? 'off' : `NOT served: ${metrics.failure}`)],
    ...warnings.map((warning, index) => [index === 0 ? 'attention' : '', warning]),
  ]);
  const { services, serviceCount } = serviceDiscovery;
  return `${facts}\n${serviceCount === 0 ? 'no services\n' : servicesText(services, serviceCount)}`;
}

function workloadsText(counts: StatusView['workloads']): string {
  const states = Object.entries(counts).filter(([state]) => state !== 'total');
  return states.map(([state, count]) => `${count} ${state}`).join(', ') || 'none';
}

function kernelText({ inSync, backend, revision, reason }: StatusView['kernel']): string {
  return inSync ? `in sync (${backend}, revision ${revision})` : `NOT in sync: ${reason ?? 'no reason given'}`;
}

function ingressText({ running, port, published, reason }: StatusView['ingress']): string {
  if (!running) return reason === undefined ? `starting on ${port}` : `NOT running: ${reason}`;
  return `http on ${port}${published === undefined ? '' : `, outside ${published}`}${reason === undefined ? '' : `: ${reason}`}`;
}

function driftText({ repairs, lastRepairAt, last }: StatusView['drift']): string {
  const latest = [lastRepairAt, last].filter((part) => part !== undefined).join(', ');
  return `${repairs} ${repairs === 1 ? 'repair' : 'repairs'}${latest === '' ? '' : `, the last: ${latest}`}`;
}

function poolText({ used, free, quarantined }: z.output<typeof pool>): string {
  return `${used} used, ${free} free${quarantined === 0 ? '' : `, ${quarantined} quarantined`}`;
}

function servicesText(services: StatusView['serviceDiscovery']['services'], count: number): string {
  const rows = services.map(({ name, namespace = 'default', clusterIp, port, endpoints, healthy }) => [
    namespace,
    name,
    clusterIp,
    String(port),
    `${healthy}/${endpoints}`,
  ]);
  const more = count > services.length ? `and ${count - services.length} more: clawnode invoke service.list '{"limit":500}'\n` : '';
  return table([['NAMESPACE', 'SERVICE', 'CLUSTER IP', 'PORT', 'HEALTHY'], ...rows]) + more;
}
