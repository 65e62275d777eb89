/** Cuts connections that policies no longer allow, once the kernel lets no new ones come into being; it programs no rule. */
import type { Logger } from 'pino';
import { forbiddenFlows, type TrackedConnection } from '../compile/forbidden-flows.ts';
import type { ConntrackFlush } from '../compile/kernel-state.ts';
import type { Ipv4 } from '../model/address.ts';
import type { Desired } from '../model/observed.ts';
import { policyModel } from '../policy/evaluate.ts';
import { namespaceLabels } from '../policy/parties.ts';

export interface TightenOptions {
  readonly readConnections: (signal: AbortSignal) => Promise<readonly TrackedConnection[]>;
  readonly conntrack: { flush(entries: readonly ConntrackFlush[], signal: AbortSignal): Promise<unknown> };
  readonly isLocal: () => (ip: Ipv4) => boolean;
  readonly logger: Logger;
}

/**
 * Lists, deletes, and lists again: a packet that was on its way through the old rules may have left an entry behind. A cut TCP
 * connection is answered with a reset, since its next packet opens none.
 */
export function tightener({ readConnections, conntrack, isLocal, logger }: TightenOptions): (desired: Desired, signal: AbortSignal) => Promise<void> {
  return async ({ policies, namespaces, workloads }, signal) => {
    if (policies.size === 0) return;
    const model = policyModel({ policies: policies.values(), namespaces: namespaceLabels(namespaces.values()) });
    const byIp = new Map([...workloads.values()].map((workload) => [workload.ip, workload]));
    const local = isLocal();
    for (let round = 0; round < MOST_ROUNDS; round += 1) {
      const forbidden = forbiddenFlows({ connections: await readConnections(signal), model, workloads: byIp, isLocal: local });
      if (forbidden.length === 0) return;
      await conntrack.flush(forbidden, signal);
      logger.info({ flows: forbidden.length }, 'connections that policies no longer allow were cut');
    }
  };
}

/** After the first, only packets that were on their way can have left one. */
const MOST_ROUNDS = 3;
