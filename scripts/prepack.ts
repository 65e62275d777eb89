/**
 * Gets the checkout ready to be packed: builds dist, and takes out of package.json what only a checkout needs. It sees to it that
 * package.json comes back however the packing ends, since npm calls `postpack` only when it ended well.
 */
import { run, start } from '../src/drivers/exec.ts';
import { stripManifest } from './packed-manifest.ts';

// package.json starts this through `exec`, so the parent is npm itself and not a shell.
const npmPid = process.ppid;

await run([process.execPath, `${import.meta.dirname}/build.ts`], { timeoutMs: 120_000 });
stripManifest(npmPid);
start([process.execPath, `${import.meta.dirname}/postpack.ts`, '--after', String(npmPid)], { detached: true, stdio: 'ignore' }).unref();
