/** Which of the tracked connections the policies of now would not let come into being. Pure. */
import type { Ipv4 } from '../model/address.ts';
import { policyProtocol } from '../model/policy.ts';
import type { PolicyModel } from '../policy/evaluate.ts';
import type { Party, PolicyWorkload } from '../policy/parties.ts';
import type { ForbiddenFlow } from './kernel-state.ts';

/** As the kernel tracks it, translated or not; ports are 0 where the protocol has none. */
export interface TrackedConnection {
  readonly protocol: string;
  readonly state?: string | undefined;
  readonly client: Ipv4;
  readonly dialled: { readonly ip: Ipv4; readonly port: number };
  /** Who answers. */
  readonly endpoint: { readonly ip: Ipv4; readonly port: number };
  /** It bears the mark of those that are being cut: nothing of it passes. */
  readonly marked?: boolean | undefined;
}

export interface ForbiddenInput {
  readonly connections: Iterable<TrackedConnection>;
  readonly model: Pick<PolicyModel, 'judge'>;
  readonly workloads: ReadonlyMap<Ipv4, PolicyWorkload>;
  /** The addresses of the node itself. */
  readonly isLocal: (ip: Ipv4) => boolean;
}

/** Over, and only remembered. */
const ENDED = new Set(['TIME_WAIT', 'CLOSE', 'CLOSED']);

/** Each group of connections once: all from one address to one port by way of the same dialled one share their verdict. */
export function forbiddenFlows({ connections, model, workloads, isLocal }: ForbiddenInput): ForbiddenFlow[] {
  const party = (ip: Ipv4): Party => {
    const workload = workloads.get(ip);
    if (workload !== undefined) return { kind: 'workload', workload };
    return isLocal(ip) ? { kind: 'host', ip } : { kind: 'address', ip };
  };
  const groups = new Map<string, ForbiddenFlow>();
  for (const { protocol, state, client, dialled, endpoint } of connections) {
    if (state !== undefined && ENDED.has(state)) continue;
    const key = `${protocol} ${client} ${dialled.ip}:${dialled.port} ${endpoint.ip}:${endpoint.port}`;
    if (groups.has(key) || (!workloads.has(client) && !workloads.has(endpoint.ip))) continue;
    const known = policyProtocol.safeParse(protocol);
    const flow = { from: party(client), to: party(endpoint.ip), protocol: known.success ? known.data : ('other' as const), port: known.success ? endpoint.port : 0 };
    if (model.judge(flow).verdict === 'deny') groups.set(key, { type: 'forbidden', protocol, from: client, dialled, endpoint });
  }
  return [...groups.values()];
}
