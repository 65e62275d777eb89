/** How long from the start of one probe to the start of the next; pure. */

const JITTER = 0.1;

/**
 * In ms, given a random number from 0 to below 1. Targets that came together are spread over a whole interval after their `first`
 * probe; later gaps vary by a tenth, so that they do not gather again.
 */
export function gapMs(intervalMs: number, { first, random }: { first: boolean; random: number }): number {
  return first ? intervalMs * random : intervalMs * (1 - JITTER + 2 * JITTER * random);
}
