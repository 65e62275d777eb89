/** Whether what the store says is in force; imports nothing local. */

export interface Enforcement {
  readonly enforced: boolean;
  /** Why it is not. */
  readonly reason?: string;
}
