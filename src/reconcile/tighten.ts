/** Cuts connections that policies no longer allow, once the kernel lets no new ones come into being; it programs no rule. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { forbiddenFlows, type TrackedConnection } from '../compile/forbidden-flows.ts';
import type { ConntrackFlush, ForbiddenFlow } from '../compile/kernel-state.ts';
import { CUT_MARK } from '../compile/netpol.ts';
import type { Ipv4 } from '../model/address.ts';
import type { Desired } from '../model/observed.ts';
import { policyModel } from '../policy/evaluate.ts';
import { namespaceLabels } from '../policy/parties.ts';

export interface TightenOptions {
  readonly readConnections: (signal: AbortSignal) => Promise<readonly TrackedConnection[]>;
  readonly conntrack: {
    flush(entries: readonly ConntrackFlush[], signal: AbortSignal): Promise<unknown>;
    mark(entries: readonly ForbiddenFlow[], mark: string, signal: AbortSignal): Promise<unknown>;
    deleteMarked(mark: string, signal: AbortSignal): Promise<unknown>;
  };
  readonly isLocal: () => (ip: Ipv4) => boolean;
  readonly logger: Logger;
}

/**
 * Lists, deletes, and lists again: a packet that was on its way through the old rules may have left an entry behind. A cut TCP
 * connection is answered with a reset, since its next packet opens none. Any UDP packet opens one, also an answer that is on its
 * way while the entry is deleted, and in its direction that may be allowed: these entries are marked, by which nothing of theirs
 * passes from then on, and deleted when nothing is on its way any more.
 */
export function tightener({ readConnections, conntrack, isLocal, logger }: TightenOptions): (desired: Desired, signal: AbortSignal) => Promise<void> {
  const deleteLater = async (signal: AbortSignal): Promise<void> => {
    try {
      await sleep(ON_THE_WAY_MS, undefined, { signal });
      await conntrack.deleteMarked(CUT_MARK, signal);
    } catch (error) {
      // Whoever tightens next finds their mark; until then they are refused.
      if (!signal.aborted) logger.warn({ err: error }, 'UDP flows that were cut could not be deleted yet');
    }
  };

  // An agent before this one may have left marked entries behind.
  let first = true;
  return async ({ policies, namespaces, workloads }, signal) => {
    if (policies.size === 0 && !first) return;
    const model = policyModel({ policies: policies.values(), namespaces: namespaceLabels(namespaces.values()) });
    const byIp = new Map([...workloads.values()].map((workload) => [workload.ip, workload]));
    const local = isLocal();
    for (let round = 0; round < MOST_ROUNDS; round += 1) {
      const connections = await readConnections(signal);
      const open = connections.filter(({ marked }) => marked !== true);
      const forbidden = policies.size === 0 ? [] : forbiddenFlows({ connections: open, model, workloads: byIp, isLocal: local });
      const [datagrams, others] = [forbidden.filter(isUdp), forbidden.filter((flow) => !isUdp(flow))];
      await conntrack.mark(datagrams, CUT_MARK, signal);
      await conntrack.flush(others, signal);
      if (datagrams.length > 0 || (round === 0 && open.length < connections.length)) void deleteLater(signal);
      first = false;
      if (forbidden.length === 0) return;
      logger.info({ flows: forbidden.length }, 'connections that policies no longer allow were cut');
    }
  };
}

function isUdp({ protocol }: ForbiddenFlow): boolean {
  return protocol === 'udp';
}

/** An answer may take this long: who answers was woken by the last packet that passed. */
const ON_THE_WAY_MS = 500;
/** After the first, only packets that were on their way can have left one. */
const MOST_ROUNDS = 3;
