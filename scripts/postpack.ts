/** Puts package.json back after packing: at once, or with `--after PID` as soon as that process, which packs, is gone. */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { isAlive, restoreManifest, strippedFor } from './packed-manifest.ts';

const POLL_MS = 100;
const { values } = parseArgs({ options: { after: { type: 'string' } } });

if (values.after === undefined) restoreManifest();
else await restoreAfter(Number(values.after));

/** Does nothing when the package.json was put back meanwhile, also when the next packing has stripped it again. */
async function restoreAfter(pid: number): Promise<void> {
  while (strippedFor() === pid) {
    if (!isAlive(pid)) return restoreManifest();
    await sleep(POLL_MS);
  }
}
