/** Whether the agent is a service of systemd here, and whether that service would run this program; it changes nothing. */
import { accessSync, constants } from 'node:fs';
import { dirname, join } from 'node:path';
import { readFile } from 'node:fs/promises';
import { toClawError } from '../../../errors.ts';
import { readIfThere, unitPath } from '../service/files.ts';
import { systemdRuns, unitState } from '../service/systemd.ts';
import { authorOf, wordsOf } from '../service/unit.ts';
import type { Finding } from './finding.ts';

export interface ServiceOptions {
  /** `/`, but for tests. */
  readonly root: string;
  /** Of this program. */
  readonly version: string;
}

/** The words of `ExecStart`, and the configuration that they name; undefined where there is no such unit. */
export async function installedService(root: string): Promise<{ text: string; words: string[]; configFile: string | undefined } | undefined> {
  const text = await readIfThere(unitPath(root)).catch(() => undefined);
  if (text === undefined) return undefined;
  const words = wordsOf(/^ExecStart=(.*)$/m.exec(text)?.[1] ?? '');
  const at = words.indexOf('--config');
  return { text, words, configFile: at === -1 ? undefined : words[at + 1] };
}

export async function inspectService({ root, version }: ServiceOptions, signal: AbortSignal): Promise<Finding[]> {
  const about = { area: 'service', name: 'systemd', need: 'optional', purpose: 'starts the agent at boot' } as const;
  const runs = systemdRuns();
  const installed = await installedService(root);
  if (installed === undefined) {
    if (!runs) return [{ ...about, state: 'ok', detail: 'does not run here' }];
    return [{ ...about, state: 'note', detail: 'the agent is no service, so nobody starts it at boot', fix: 'sudo clawnode install-service --start' }];
  }
  const problem = await whyNotRunnable(installed.words, version);
  if (problem !== undefined) return [{ ...about, state: 'warning', ...problem }];
  if (!runs) return [{ ...about, state: 'note', detail: 'the unit is there, and systemd does not run here' }];
  try {
    const { active, enabled } = await unitState(signal);
    if (active === 'failed' || active === 'activating') return [{ ...about, state: 'warning', detail: `the service is ${active}`, fix: 'Its words: `journalctl -u clawnode -e`.' }];
    if (active !== 'active') return [{ ...about, state: 'note', detail: `the service is ${active}`, fix: 'sudo systemctl enable --now clawnode' }];
    if (enabled !== 'enabled') return [{ ...about, state: 'warning', detail: 'the service runs, and does not start at boot', fix: 'sudo systemctl enable clawnode' }];
    const edited = authorOf(installed.text) === 'us' ? '' : ', with a unit that was edited by hand';
    return [{ ...about, state: 'ok', detail: `runs the agent, and starts it at boot${edited}` }];
  } catch (thrown) {
    signal.throwIfAborted();
    return [{ ...about, state: 'warning', detail: toClawError(thrown).message }];
  }
}

/** A unit outlives the program that it names: an update or a removal of Node.js leaves it behind. */
async function whyNotRunnable(words: readonly string[], version: string): Promise<{ detail: string; fix: string } | undefined> {
  const fix = 'sudo clawnode install-service --start';
  const [node = '', launcher = ''] = words;
  for (const path of [node, launcher]) {
    try {
      accessSync(path, path === node ? constants.X_OK : constants.R_OK);
    } catch (error) {
      // Other users may not look into some directories; root does.
      if (error instanceof Error && 'code' in error && error.code === 'EACCES') return undefined;
      return { detail: `its unit starts ${path === '' ? 'nothing' : path}, which does not exist`, fix };
    }
  }
  const manifest = await readFile(join(dirname(launcher), '..', 'package.json'), 'utf8').catch(() => '');
  const theirs = /"version":\s*"([^"]{1,40})"/.exec(manifest)?.[1];
  return theirs === undefined || theirs === version ? undefined : { detail: `its unit starts clawnode ${theirs} (${launcher}); this is ${version}`, fix };
}
