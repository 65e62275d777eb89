/**
 * The peer of one-create.ts: feeds each payload that it is told to a forked `iptables-restore --noflush` of its own, as
 * programs without a long-lived one do, or to one that lives on, as the agent does. A line on stdin is a request as JSON; a
 * line on stdout the milliseconds that each payload took.
 */
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { run } from '../src/drivers/exec.ts';
import { openRestoreProcess } from '../src/drivers/iptables-restore.ts';

const request = z.object({ how: z.enum(['forked', 'kept']), payloads: z.array(z.string()).readonly() });
export type PeerRequest = z.infer<typeof request>;

const TIMEOUT_MS = 60_000;

if (import.meta.main) {
  const kept = openRestoreProcess({ argv: ['iptables-nft-restore', '--noflush', '-v', '--wait'], onExit: () => undefined });
  for await (const line of createInterface({ input: process.stdin })) {
    const times: number[] = [];
    const { how, payloads } = request.parse(JSON.parse(line));
    for (const payload of payloads) {
      const beganMs = performance.now();
      if (how === 'kept') await kept.commit(payload, { timeoutMs: TIMEOUT_MS });
      else await run(['iptables-nft-restore', '--noflush', '--wait'], { input: payload, timeoutMs: TIMEOUT_MS });
      times.push(performance.now() - beganMs);
    }
    process.stdout.write(`${JSON.stringify(times)}\n`);
  }
  await kept.close();
}
