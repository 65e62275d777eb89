/** The active health check of a service: what a user may write, and the settled form with every default filled in; imports nothing local. */
import { z } from 'zod';

const DEFAULT_TIMEOUT_MS = 1000;
const LONGEST_INTERVAL_MS = 3_600_000;

// Neither blanks nor control characters can smuggle a second header or request into the probe, and "#" is never sent.
const path = z
  .string()
  .max(1024, { error: 'a path holds at most 1024 characters' })
  .regex(/^\/[!"$-~]*$/, { error: 'a path starts with "/" and holds no blank, no "#" and only ASCII; write others as %XX' });

const duration = (leastMs: number) =>
  z
    .int({ error: 'this is a whole number of milliseconds' })
    .min(leastMs, { error: `at least ${leastMs} ms` })
    .max(LONGEST_INTERVAL_MS, { error: `at most ${LONGEST_INTERVAL_MS} ms` });

const count = z.int({ error: 'this is a whole number' }).min(1, { error: 'at least 1' }).max(100, { error: 'at most 100' });

const timing = { intervalMs: duration(100), timeoutMs: duration(1), failures: count, successes: count };

/** A check with nothing left open. `timeoutMs` never exceeds `intervalMs`: a probe ends before the next one is due. */
const settled = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('tcp'), ...timing }),
  z.strictObject({ type: z.literal('http'), path, ...timing }),
]);
export type HealthCheck = z.infer<typeof settled>;

/**
 * A check as it is written; parsing fills in the defaults, and parsing the result again changes nothing. Both kinds speak TCP, so
 * they tell nothing about a UDP port: whoever takes a check together with ports refuses it for a service without a TCP port, and
 * probes only TCP ports.
 */
export const healthCheck = z
  .strictObject({
    type: z.enum(['tcp', 'http'], { error: 'a health check is of type "tcp" (connects) or "http" (GET answers 200 to 399)' }).describe('tcp connects; http wants 200-399'),
    path: path.describe('For http; default /').optional(),
    intervalMs: timing.intervalMs.default(5000),
    timeoutMs: timing.timeoutMs.describe(`Default ${DEFAULT_TIMEOUT_MS}; at most intervalMs`).optional(),
    failures: timing.failures.default(3).describe('In a row, until unhealthy'),
    successes: timing.successes.default(1).describe('In a row, until healthy'),
  })
  .superRefine((check, context) => {
    if (check.type === 'tcp' && check.path !== undefined) {
      context.addIssue({ code: 'custom', path: ['path'], input: check.path, message: 'a check of type "tcp" has no path; use type "http" or leave the path out' });
    }
    if (check.timeoutMs !== undefined && check.timeoutMs > check.intervalMs) {
      const message = `a probe ends before the next one is due: at most intervalMs, which is ${check.intervalMs}`;
      context.addIssue({ code: 'custom', path: ['timeoutMs'], input: check.timeoutMs, message });
    }
  })
  .transform(({ type, path: given, timeoutMs, ...rest }): HealthCheck => {
    const timed = { ...rest, timeoutMs: timeoutMs ?? Math.min(DEFAULT_TIMEOUT_MS, rest.intervalMs) };
    return type === 'http' ? { type, path: given ?? '/', ...timed } : { type, ...timed };
  })
  .pipe(settled);
