/** What MCP clients can read without a tool call: the node's status and its services, each through the command that answers it. It decides nothing. */
import { toClawError, type ClawError } from '../errors.ts';
import { McpFailure, RPC } from './mcp-failure.ts';
import type { Invoke } from './mcp-tools.ts';
import { plainAnswer, plainError } from './plain-answer.ts';
import { toolsInScope, type ToolScope } from './tool-scope.ts';

interface Resource {
  readonly uri: string;
  readonly name: string;
  readonly title: string;
  readonly description: string;
  /** The command whose answer it is. It is listed where that command is, and the agent decides on each reading. */
  readonly command: string;
  readonly params: Readonly<Record<string, unknown>>;
}

/** As many as one page of a list holds; `count` tells when there are more. */
const MOST = 500;

export const STATUS_URI = 'network://status';
export const SERVICES_URI = 'network://services';
export const POLICIES_URI = 'network://policies';

const RESOURCES: readonly Resource[] = [
  {
    uri: STATUS_URI,
    name: 'status',
    title: 'Network status',
    description: 'Mode and health of this node, as network_status answers.',
    command: 'network.status',
    params: {},
  },
  {
    uri: SERVICES_URI,
    name: 'services',
    title: 'Services',
    description: `The first ${MOST} services with virtual IPs and number of endpoints; count tells how many there are.`,
    command: 'service.list',
    params: { limit: MOST },
  },
  {
    uri: POLICIES_URI,
    name: 'policies',
    title: 'Network policies',
    description: `The first ${MOST} network policies; count tells how many there are.`,
    command: 'network.policy.list',
    params: { limit: MOST },
  },
];

const SERVICE_TEMPLATE = {
  uriTemplate: 'network://services/{namespace}/{name}',
  name: 'service',
  title: 'One service',
  description: 'A service with its virtual IP and the endpoints behind it now.',
  mimeType: 'application/json',
} as const;
const SERVICE_URI = /^network:\/\/services\/([^/]+)\/([^/]+)$/;
const SERVICE_COMMAND = 'service.get';

export function listResources(scope: ToolScope) {
  const listed = commandsInScope(scope);
  return RESOURCES.filter(({ command }) => listed.has(command)).map(({ uri, name, title, description }) => ({
    uri,
    name,
    title,
    description,
    mimeType: 'application/json',
  }));
}

export function listResourceTemplates(scope: ToolScope) {
  return commandsInScope(scope).has(SERVICE_COMMAND) ? [SERVICE_TEMPLATE] : [];
}

/** A type and no interface, so that it fits the index signatures of the protocol's results. */
export type ResourceResult = {
  contents: { uri: string; mimeType: string; text: string }[];
};

/** By the command behind it, so a session's limits hold here as well. Throws McpFailure with the error's JSON as its data. */
export async function readResource(invoke: Invoke, uri: string, signal: AbortSignal): Promise<ResourceResult> {
  const { command, params } = callBehind(uri);
  try {
    const answer = plainAnswer(command, await invoke(command, params, signal));
    return { contents: [{ uri, mimeType: 'application/json', text: JSON.stringify(answer, undefined, 2) }] };
  } catch (error) {
    throw protocolError(uri, toClawError(error));
  }
}

/** The error's JSON as data. A resource that is not there is told by its `uri` in it, as the protocol has it since 2026-07-28. */
export function protocolError(uri: string, error: ClawError): McpFailure {
  const data = plainError(error);
  const absent = data.code.endsWith('_NOT_FOUND');
  return new McpFailure(numberOf(error), `${data.code}: ${data.message}`, absent ? { uri, ...data } : data);
}

/** The service that a resource of the template shows. */
export function serviceBehind(uri: string): { namespace: string; name: string } | undefined {
  const [, namespace, name] = SERVICE_URI.exec(uri) ?? [];
  return namespace === undefined || name === undefined ? undefined : { namespace, name };
}

function callBehind(uri: string): Pick<Resource, 'command' | 'params'> {
  const fixed = RESOURCES.find((resource) => resource.uri === uri);
  if (fixed !== undefined) return fixed;
  const service = serviceBehind(uri);
  if (service !== undefined) return { command: SERVICE_COMMAND, params: service };
  throw new McpFailure(RPC.invalidParams, `there is no resource ${JSON.stringify(uri.slice(0, 100))}; resources/list names them`, { uri });
}

function numberOf({ code }: ClawError): number {
  if (code === 'INVALID_ARGUMENT' || code.endsWith('_NOT_FOUND')) return RPC.invalidParams;
  return code === 'NOT_ALLOWED' ? RPC.invalidRequest : RPC.internalError;
}

function commandsInScope(scope: ToolScope): ReadonlySet<string> {
  return new Set(toolsInScope(scope).map(({ command }) => command));
}
