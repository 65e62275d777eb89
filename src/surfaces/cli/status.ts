/** `clawnode status`: the agent's `network.status` for people, or as it is with `--json`. */
import { z } from 'zod';
import { agentSocketPath, connectAgent } from '../agent-client.ts';
import { table } from './table.ts';
import { parseArguments, type Subcommand } from './usage.ts';

export const status: Subcommand = {
  help: `Usage: clawnode status [--json]

Shows what the agent runs: node, mode, services, addresses in use. With --json the answer of network.status as it is.
`,
  run: async (argv) => {
    const { values } = parseArguments({ args: argv, options: { json: { type: 'boolean', default: false } } });
    const socketPath = agentSocketPath();
    const answer = await connectAgent(socketPath, { surface: 'cli' }).invoke('network.status', {}, new AbortController().signal);
    process.stdout.write(values.json ? `${JSON.stringify(answer, null, 2)}\n` : statusText(statusView.parse(answer), socketPath));
    return 0;
  },
};

const pool = z.looseObject({ used: z.number(), free: z.number(), quarantined: z.number() });

/** The part of `network.status` that is shown; what later versions add is passed over. */
const statusView = z.looseObject({
  node: z.string(),
  mode: z.string(),
  version: z.string(),
  serviceDiscovery: z.looseObject({
    serviceCount: z.number(),
    iptablesAvailable: z.boolean(),
    services: z.array(
      z.looseObject({ name: z.string(), namespace: z.string().optional(), clusterIp: z.string(), port: z.number(), endpoints: z.number(), healthy: z.number() }),
    ),
  }),
  allocator: z.looseObject({ stats: z.looseObject({ clusterIps: pool, workloadIps: pool }) }),
});

type StatusView = z.output<typeof statusView>;

function statusText({ node, mode, version, serviceDiscovery, allocator }: StatusView, socketPath: string): string {
  const { services, serviceCount, iptablesAvailable } = serviceDiscovery;
  const facts = table([
    ['node', node],
    ['mode', mode],
    ['agent', `clawnode ${version} on ${socketPath}`],
    ['iptables', iptablesAvailable ? 'available' : 'NOT available: nothing is enforced'],
    ['cluster IPs', poolText(allocator.stats.clusterIps)],
    ['workload IPs', poolText(allocator.stats.workloadIps)],
  ]);
  return `${facts}\n${serviceCount === 0 ? 'no services\n' : servicesText(services, serviceCount)}`;
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
  const more = count > services.length ? `and ${count - services.length} more: clawnode invoke service.list\n` : '';
  return table([['NAMESPACE', 'SERVICE', 'CLUSTER IP', 'PORT', 'HEALTHY'], ...rows]) + more;
}
