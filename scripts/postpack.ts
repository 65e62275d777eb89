/** Puts package.json back after packing: at once, or with `--after PID` as soon as that process is gone. */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { isAlive, isStripped, restoreManifest } from './packed-manifest.ts';

const POLL_MS = 100;
const { values } = parseArgs({ options: { after: { type: 'string' } } });

if (values.after !== undefined) {
  while (isStripped() && isAlive(Number(values.after))) await sleep(POLL_MS);
}
restoreManifest();
