/** Asks and tells the running systemd; it knows nothing of the unit's text. */
import { existsSync } from 'node:fs';
import { run } from '../../../drivers/exec.ts';
import { UNIT_NAME } from './unit.ts';

const START_TIMEOUT_MS = 120_000;

/** The test of sd_booted(3). */
export function systemdRuns(): boolean {
  return existsSync('/run/systemd/system');
}

/** Throws ProcessError with systemctl's first complaint. */
export async function systemctl(args: readonly string[], signal: AbortSignal): Promise<void> {
  await run(['systemctl', ...args], { signal, timeoutMs: START_TIMEOUT_MS });
}

export interface UnitState {
  /** `active`, `failed`, `activating`, `inactive` and so on. */
  readonly active: string;
  /** `enabled`, `disabled` and so on; empty when it is unknown. */
  readonly enabled: string;
}

export async function unitState(signal: AbortSignal): Promise<UnitState> {
  const { stdout } = await run(['systemctl', 'show', '--property=ActiveState,UnitFileState', UNIT_NAME], { signal });
  const value = (name: string): string => new RegExp(`^${name}=(.*)$`, 'm').exec(stdout)?.[1] ?? '';
  return { active: value('ActiveState'), enabled: value('UnitFileState') };
}
