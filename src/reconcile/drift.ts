/** Decides when to look whether others changed what is ours in the kernel, and has it repaired; how to look and how to repair is the drivers' and the loop's. */
import type { Logger } from 'pino';
import { TABLES, type NodeNetwork, type WorkloadLink } from '../compile/kernel-state.ts';
import { checkNetwork, type DesiredNetwork } from '../drivers/drift-network.ts';
import { watchNetwork } from '../drivers/drift-watch-ip.ts';
import type { IpsetDriver } from '../drivers/ipset.ts';
import type { IptablesBackend } from '../drivers/iptables-save.ts';
import type { IptablesDriver } from '../drivers/iptables.ts';
import type { DriftLog } from './drift-log.ts';
import { watchRules } from './drift-rules.ts';
import { patiently } from './patience.ts';

export interface DriftOptions {
  readonly backend: IptablesBackend;
  readonly iptables: Pick<IptablesDriver, 'check' | 'mark'>;
  readonly ipset: Pick<IpsetDriver, 'check'>;
  readonly nodeNetwork: { apply(network: NodeNetwork, signal?: AbortSignal): Promise<unknown> };
  /** The links that have to exist now: not those of workloads that are being started or stopped. */
  readonly desired: () => DesiredNetwork;
  /** Repairs one link; does nothing when its workload is being stopped meanwhile. */
  readonly ensureLink: (link: WorkloadLink, signal: AbortSignal) => Promise<unknown>;
  /**
   * Has the loop read the kernel and write what differs; if it gives a promise, one that resolves when that is done. Drivers
   * tell what it was through `log.repaired`.
   */
  readonly resync: () => unknown;
  readonly log: DriftLog;
  readonly logger: Logger;
  readonly intervals?: Partial<DriftIntervals>;
}

export interface DriftIntervals {
  /** Between looks at what the kernel tells nobody about: sets, and rules where they cannot be watched. */
  readonly pollMs: number;
  /** Between readings of all that is ours, while rules are watched. */
  readonly fullMs: number;
  /** The same where they cannot be, and large tables are polled in part. */
  readonly fullUnwatchedMs: number;
}

export interface Drift {
  close(): Promise<void>;
}

const INTERVALS: DriftIntervals = { pollMs: 3_500, fullMs: 600_000, fullUnwatchedMs: 120_000 };
/** Changes of a network come in bursts: an interface with its addresses and routes. */
const NETWORK_QUIET_MS = 100;

/** Call it when the first pass has succeeded. What it finds is repaired until `close`. */
export function watchDrift(options: DriftOptions): Drift {
  const { backend, iptables, ipset, nodeNetwork, desired, log, logger } = options;
  const intervals = { ...INTERVALS, ...options.intervals };
  const ended = new AbortController();
  const { signal } = ended;

  const attempt = async (what: string, act: () => Promise<void>): Promise<void> => {
    try {
      await act();
    } catch (error) {
      if (!signal.aborted) logger.warn({ err: error }, `drift: ${what} failed; it is tried again`);
    }
  };

  const resync = patiently({ act: () => attempt('repairing', async () => void (await options.resync())), quietMs: 0 });

  const rules = backend === 'nft' ? watchRules({ iptables, resync: resync.request, log, logger, signal }) : undefined;

  const network = patiently({ act: () => attempt('looking at addresses, routes and links', repairNetwork), quietMs: NETWORK_QUIET_MS });
  const networkWatch = watchNetwork({
    onChange: network.request,
    onStart: network.request,
    onLost: (reason) => logger.warn({ reason }, 'drift: `ip monitor` ended and is started again'),
  });

  async function repairNetwork(): Promise<void> {
    const wanted = desired();
    const damage = await checkNetwork(wanted, signal);
    if (damage.node.length > 0) {
      await nodeNetwork.apply(wanted.nodeNetwork, signal);
      log.repaired(damage.node);
    }
    for (const { link, words } of damage.links) {
      // Its workload may have been told to stop while others were repaired.
      if (!desired().links.some(({ id }) => id === link.id)) continue;
      await options.ensureLink(link, signal);
      log.repaired(words);
    }
  }

  const poll = async (): Promise<void> => {
    const words = [...(await ipset.check(signal)), ...(rules?.isWatching() === true ? [] : await iptables.check(TABLES, signal))];
    if (words.length > 0) resync.request();
  };

  const full = async (): Promise<void> => {
    resync.request();
    network.request();
  };

  const timers = [
    everyNowAndThen(() => intervals.pollMs, () => attempt('looking at sets and rules', poll), signal),
    everyNowAndThen(() => jittered(rules?.isWatching() === true ? intervals.fullMs : intervals.fullUnwatchedMs), full, signal),
  ];

  return {
    close: async () => {
      ended.abort();
      await Promise.all([networkWatch.close(), rules?.close(), resync.close(), network.close(), ...timers]);
    },
  };
}

/** Waits between one call and the next; resolves once the signal is aborted and the running call has ended. */
async function everyNowAndThen(delayMs: () => number, act: () => Promise<void>, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, delayMs());
      signal.addEventListener('abort', done, { once: true });
    });
    if (!signal.aborted) await act();
  }
}

/** By up to a fifth, so that nodes that started together do not read together for ever. */
function jittered(ms: number): number {
  return ms * (0.8 + Math.random() * 0.4);
}
