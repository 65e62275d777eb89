/** Proves again and again that what the kernel logs reaches us, by a datagram of our own that a rule of ours logs. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { Ipv4 } from '../model/address.ts';
import { SELF_TEST_PORT } from '../model/flow.ts';

export interface SelfTestOptions {
  /** A virtual IP that belongs to nobody: the rules log what the node sends to its SELF_TEST_PORT, and refuse it. */
  readonly address: Ipv4;
  /** Undefined: the event came; else in words what happened. */
  readonly onVerdict: (failure: string | undefined) => void;
  readonly timing?: Partial<typeof TIMING>;
}

export interface SelfTest {
  /** An event of the self-test's rule came in. */
  seen(sourcePort: number | undefined): void;
  /** Tests at once and then now and then, until the signal ends it. */
  run(signal: AbortSignal): Promise<void>;
}

const TIMING = { answerMs: 3000, afterFailureMs: 5000, afterSuccessMs: 120_000 };

export function createSelfTest({ address, onVerdict, timing }: SelfTestOptions): SelfTest {
  const { answerMs, afterFailureMs, afterSuccessMs } = { ...TIMING, ...timing };
  /** By source port, which tells one test's event from another's. */
  const waiting = new Map<number, () => void>();

  const test = async (signal: AbortSignal): Promise<string | undefined> => {
    const socket = createSocket('udp4');
    try {
      socket.bind();
      await once(socket, 'listening', { signal });
      const { port } = socket.address();
      const { promise, resolve } = Promise.withResolvers<undefined>();
      waiting.set(port, () => resolve(undefined));
      const refused = await send(socket, address);
      if (refused !== undefined) return `the self-test could not send to ${address}: ${refused}`;
      const answered = new AbortController();
      const late = delay(answerMs, `an event of the self-test did not come within ${answerMs} ms`, { signal: AbortSignal.any([signal, answered.signal]) });
      // The timer that lost ends with an error.
      late.catch(() => undefined);
      const failure = await Promise.race([promise, late]);
      answered.abort();
      waiting.delete(port);
      return failure;
    } finally {
      socket.close();
    }
  };

  return {
    seen: (sourcePort) => {
      if (sourcePort !== undefined) waiting.get(sourcePort)?.();
    },
    run: async (signal) => {
      try {
        for (;;) {
          const failure = await test(signal);
          signal.throwIfAborted();
          onVerdict(failure);
          await delay(failure === undefined ? afterSuccessMs : afterFailureMs, undefined, { signal });
        }
      } catch (error) {
        // Being told to stop is how it ends; anything else is a defect and must be seen.
        if (!signal.aborted) throw error;
      } finally {
        waiting.clear();
      }
    },
  };
}

/** Why it could not be sent. The refusal by our own rule (EPERM) comes after the one that logs, and is expected. */
function send(socket: ReturnType<typeof createSocket>, address: Ipv4): Promise<string | undefined> {
  return new Promise((resolve) => {
    socket.send('clawnode', SELF_TEST_PORT, address, (error) => {
      const code = error !== null && 'code' in error ? error.code : undefined;
      resolve(error === null || code === 'EPERM' ? undefined : error.message);
    });
  });
}
