/** How the agent is that this user would talk to; it starts none and changes nothing of it. */
import { lstat } from 'node:fs/promises';
import { z } from 'zod';
import { toClawError } from '../../../errors.ts';
import { connectAgent } from '../../agent-client.ts';
import type { Finding } from './finding.ts';

export interface AgentOptions {
  readonly socketPath: string;
  /** Of this program. */
  readonly version: string;
}

const TIMEOUT_MS = 5000;
const RESTART = 'Restart it: `sudo systemctl restart clawnode`, or end `clawnode up` and start it again.';

const status = z.looseObject({
  kernel: z.looseObject({ inSync: z.boolean(), reason: z.string().optional() }),
  ingress: z.looseObject({ running: z.boolean(), reason: z.string().optional() }),
  drift: z.looseObject({ repairs: z.number(), last: z.string().optional() }),
  audit: z.looseObject({ works: z.boolean(), reason: z.string().optional() }).optional(),
  warnings: z.array(z.string()),
});

export async function inspectAgent({ socketPath, version }: AgentOptions, signal: AbortSignal): Promise<Finding[]> {
  const about = { area: 'agent', name: 'agent', need: 'optional', purpose: 'carries out every command' } as const;
  const client = connectAgent(socketPath, { surface: 'cli', readOnly: true });
  const until = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]);
  try {
    const { node, mode, version: runs, pid } = await client.health(until);
    const detail = `${runs}, node ${node}, ${mode} mode, pid ${pid}`;
    const same: Finding = runs === version
      ? { ...about, state: 'ok', detail }
      : { ...about, state: 'warning', detail: `${detail}; this program is ${version}`, fix: `${RESTART} Services, workloads and ingress stay up.` };
    return [same, ...(mode === 'model' ? [] : conditionOf(status.parse(await client.invoke('network.status', {}, until))))];
  } catch (thrown) {
    signal.throwIfAborted();
    return [{ ...about, ...(await whyNone(thrown, socketPath)) }];
  }
}

async function whyNone(thrown: unknown, socketPath: string): Promise<Pick<Finding, 'state' | 'detail' | 'fix'>> {
  const error = toClawError(thrown);
  if (error.code === 'PERMISSION_DENIED') return { state: 'note', detail: `one may run, but this user may not use ${socketPath}`, fix: 'Become a member of its group (see rights), or open a private one: `clawnode sandbox`.' };
  if (error.code === 'CANCELLED') return { state: 'warning', detail: `the one on ${socketPath} does not answer within ${TIMEOUT_MS / 1000} s`, fix: RESTART };
  if (error.code !== 'AGENT_UNREACHABLE') return { state: 'warning', detail: error.message, ...(error.hint === undefined ? {} : { fix: error.hint }) };
  const start = 'For this machine: `sudo clawnode up`, or `sudo clawnode install-service --start` for good. To try things out: `clawnode sandbox`.';
  const stats = await lstat(socketPath).catch(() => undefined);
  if (stats === undefined) return { state: 'note', detail: `none runs: there is no ${socketPath}`, fix: start };
  if (!stats.isSocket()) return { state: 'warning', detail: `${socketPath} is no socket`, fix: 'Let CLAWNODE_SOCKET name another path, or move away what is there.' };
  return { state: 'note', detail: `none runs; one that is gone has left ${socketPath}, which the next replaces`, fix: start };
}

function conditionOf({ kernel, ingress, drift, audit, warnings }: z.output<typeof status>): Finding[] {
  const about = { area: 'agent', need: 'recommended' } as const;
  return [
    kernel.inSync
      ? { ...about, name: 'in force', state: 'ok', detail: 'the kernel holds what was asked for', purpose: 'rules, sets and links' }
      : { ...about, name: 'in force', state: 'warning', detail: `the kernel does NOT hold what was asked for: ${kernel.reason ?? 'no reason given'}`, purpose: 'rules, sets and links', fix: 'The agent tries again by itself; its log says more (of the service: `journalctl -u clawnode -e`).' },
    ...(ingress.running || ingress.reason === undefined ? [] : [{ ...about, name: 'ingress', state: 'warning', detail: `does NOT run: ${ingress.reason}`, purpose: 'HTTP from outside' } as const]),
    ...(audit?.reason === undefined || audit.works ? [] : [{ ...about, name: 'flow log', state: 'warning', detail: `denied connections are not told: ${audit.reason}`, purpose: 'network.flows' } as const]),
    ...(drift.repairs === 0 ? [] : [{ ...about, name: 'drift', state: 'note', detail: `${drift.repairs} times something of ours was changed by others and repaired, the last: ${drift.last ?? 'unknown'}`, purpose: 'others change our rules', fix: 'If it goes on, find the program that changes rules: `clawnode status` tells when.' } as const]),
    ...warnings.map((warning) => ({ ...about, name: 'attention', state: 'warning', detail: warning, purpose: 'needs attention' }) as const),
  ];
}
