/**
 * The peer of one-create.ts: feeds each payload that it is told to a forked `iptables-restore --noflush` of its own, as
 * programs without a long-lived one do. A line on stdin is a JSON array of payloads; a line on stdout the milliseconds each took.
 */
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { run } from '../src/drivers/exec.ts';

for await (const line of createInterface({ input: process.stdin })) {
  const times: number[] = [];
  for (const payload of z.array(z.string()).parse(JSON.parse(line))) {
    const beganMs = performance.now();
    await run(['iptables-nft-restore', '--noflush', '--wait'], { input: payload, timeoutMs: 60_000 });
    times.push(performance.now() - beganMs);
  }
  process.stdout.write(`${JSON.stringify(times)}\n`);
}
