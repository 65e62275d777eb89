/** What this node's policies denied or would have denied: reads the kernel's log, keeps the newest, and knows whether it hears all of it. */
import type { Logger } from 'pino';
import type { Cidr } from '../model/address.ts';
import { selfTestAddress, type FlowLogStatus, type FlowQuery } from '../model/flow.ts';
import type { Desired } from '../model/observed.ts';
import { attribution } from './attribution.ts';
import { openReader, type ReaderOptions } from './reader.ts';
import { createFlowRing, type FlowRing } from './ring.ts';
import { createSelfTest, type SelfTestOptions } from './self-test.ts';
import { parseUlogdLine, type UlogdLine } from './ulogd-line.ts';

export interface FlowsOptions {
  readonly directory: string;
  readonly uid: number | undefined;
  readonly desired: Desired;
  readonly clusterIpRange: Cidr;
  /** Resolves when the rules are there for the first time, which the self-test needs. */
  readonly programmed: (signal: AbortSignal) => Promise<unknown>;
  readonly logger: Logger;
  readonly timing?: SelfTestOptions['timing'];
}

export interface Flows {
  query(query: FlowQuery): ReturnType<FlowRing['query']>;
  status(): FlowLogStatus;
  close(): Promise<void>;
}

/** Never throws: where events can not be had, `status` says why, and what may still come is tried again. */
export async function openFlows({ directory, uid, desired, clusterIpRange, programmed, logger, timing }: FlowsOptions): Promise<Flows> {
  const ring = createFlowRing();
  const attribute = attribution(desired);
  /** Undefined until something is known. */
  let health: { readonly failure: string | undefined } | undefined;
  let listeningSince: string | undefined;
  let dropped = 0;
  let nextSequence = 0;
  let unreadable = false;
  let testing = new AbortController();
  let tested: Promise<void> = Promise.resolve();

  const settle = (failure: string | undefined): void => {
    if (health === undefined || health.failure !== failure) {
      if (failure === undefined) logger.info('denied and audited connections are told');
      else logger.warn({ reason: failure }, 'denied and audited connections are not told');
    }
    health = { failure };
  };
  const selfTest = createSelfTest({ address: selfTestAddress(clusterIpRange), onVerdict: settle, ...(timing === undefined ? {} : { timing }) });
  const test = async (signal: AbortSignal): Promise<void> => {
    try {
      await programmed(signal);
      await selfTest.run(signal);
    } catch (error) {
      if (!signal.aborted) settle(`the self-test failed: ${error instanceof Error ? error.message : String(error)}`);
    }
  };

  const take = (line: UlogdLine): void => {
    if (line.sequence !== undefined) {
      dropped += Math.max(0, line.sequence - nextSequence);
      nextSequence = line.sequence + 1;
    }
    if (line.kind === 'self-test') selfTest.seen(line.sourcePort);
    if (line.kind === 'flow') ring.add(attribute(line.event));
  };

  const options: ReaderOptions = {
    directory,
    uid,
    onLine: (text) => {
      try {
        take(parseUlogdLine(text, Date.now()));
      } catch (error) {
        dropped += 1;
        // What is wrong with one line is wrong with all of its kind.
        if (!unreadable) logger.error({ err: error, line: text.slice(0, 1000) }, 'a line of ulogd can not be read');
        unreadable = true;
      }
    },
    onConnected: () => {
      nextSequence = 0;
      listeningSince = new Date().toISOString();
      testing = new AbortController();
      tested = test(testing.signal);
    },
    onLost: (reason) => {
      testing.abort();
      listeningSince = undefined;
      settle(reason);
    },
  };
  const reader = await openReader(options).catch((error: unknown) => settle(`ulogd can not be listened to: ${error instanceof Error ? error.message : String(error)}`));

  return {
    query: (query) => ring.query(query),
    status: () => ({
      works: health !== undefined && health.failure === undefined,
      ...(health === undefined ? { reason: 'it has just been started' } : health.failure === undefined ? {} : { reason: health.failure }),
      starting: health === undefined,
      ...ring.totals(),
      dropped,
      ...(listeningSince === undefined ? {} : { listeningSince }),
    }),
    close: async () => {
      testing.abort();
      await reader?.close();
      await tested;
    },
  };
}
