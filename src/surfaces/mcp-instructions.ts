/** What an MCP server says of itself before the first call, made from the tools that it lists, so that it tells of no other. Pure. */
import { plainText } from './outside-text.ts';
import { toolsInScope, toolsOfOtherToolsets, type ToolScope } from './tool-scope.ts';

// It may repeat the name of a node or of a socket.
const MAX_INTRODUCTION = 1_000;

/** A few sentences. `introduction` comes first: whose network the tools work on. */
export function instructions({ introduction, scope }: { introduction: string; scope: ToolScope }): string {
  const listed = toolsInScope(scope);
  const names = new Set(listed.map(({ toolName }) => toolName));
  const writes = listed.some(({ effect }) => effect !== 'read');
  const toPublish = steps(names);
  return [
    plainText(introduction, MAX_INTRODUCTION),
    `The tools are for ${new Intl.ListFormat('en').format([...new Set(listed.map(({ toolset }) => SUBJECTS[toolset]))])}.`,
    ...(writes ? (scope.noDestructive === true ? ['This server only reads and adds.'] : []) : ['This server only reads.']),
    ...more(scope),
    ...(names.has('network_status') ? ['network_status tells the mode and health.'] : []),
    ...(toPublish.length === 0 ? [] : [`To publish an app: ${toPublish.join(', ')}${toPublish.length > 1 ? '; any order works' : ''}.`]),
    ...(names.has('network_policy_create') && names.has('network_explain') ? ['Workloads reach each other freely until a network policy isolates them; network_explain says who reaches whom.'] : []),
    ...(names.has('workload_run') ? ['Workloads listen on 0.0.0.0, not on 127.0.0.1; look at `state`: if failed, `message` says why.'] : []),
    ...(writes ? ['`enforced: true` means that it is in force already; if false, `reason` says why.'] : []),
    'A failed call changed nothing unless it says so; its text is JSON {code, message, path, hint}: do what the hint says.',
  ].join(' ');
}

const SUBJECTS = {
  services: 'services with stable virtual IPs',
  ingress: 'HTTP ingress by host and path (port 8443 of the node)',
  policy: 'network policies',
  workloads: 'workloads with an IP each',
  namespaces: 'namespaces',
  network: 'the state of the network',
} as const;

/** That there is more, and who can show it. */
function more(scope: ToolScope): string[] {
  const others = toolsOfOtherToolsets(scope);
  if (others.length === 0) return [];
  const groups = new Intl.ListFormat('en').format([...new Set(others.map(({ toolset }) => toolset))]);
  return [`${others.length} more tools (${groups}) are not shown; the operator can start this server with --toolsets all.`];
}

function steps(names: ReadonlySet<string>): string[] {
  const labels = names.has('workload_run') ? 'the same labels' : 'the labels of its workloads';
  return [
    ...(names.has('workload_run') ? ['workload_run with labels'] : []),
    ...(names.has('service_create') ? [`service_create with ${labels} as selector`] : []),
    ...(names.has('ingress_create') ? ['ingress_create naming the service'] : []),
  ];
}
