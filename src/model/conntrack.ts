/** How full the kernel's connection tracking table is; imports nothing local. */

export interface ConntrackSize {
  /** Connections that are tracked in this network namespace. */
  readonly entries: number;
  /** The most that each network namespace may track; the machine sets it for all. */
  readonly maximum: number;
}

/** Whether it is time to tell somebody: at the maximum the kernel drops every new connection. */
export function isNearlyFull({ entries, maximum }: ConntrackSize): boolean {
  return entries >= 0.9 * maximum;
}
