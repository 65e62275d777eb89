/** What `clawnode doctor` has to say of one thing; no check and no text for people. */

export const AREAS = ['kernel', 'tools', 'network', 'rights', 'agent', 'service', 'hosts'] as const;
export type Area = (typeof AREAS)[number];

export interface Finding {
  readonly area: Area;
  readonly name: string;
  /** `required`: nothing works without it. `recommended`: a part of the program needs it. `optional`: as you like. */
  readonly need: 'required' | 'recommended' | 'optional';
  /** `note`: nothing is wrong, and it is worth knowing. */
  readonly state: 'ok' | 'missing' | 'warning' | 'note';
  /** A version, or how it is. Holds no secret. */
  readonly detail: string;
  readonly purpose: string;
  /** What to do, as a sentence or a command. */
  readonly fix?: string;
  /** The Debian and Ubuntu package that would bring it. */
  readonly package?: string;
}

export function isFit(findings: readonly Finding[]): boolean {
  return findings.every(({ need, state }) => need !== 'required' || state !== 'missing');
}
