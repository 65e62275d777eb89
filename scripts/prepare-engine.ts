/**
 * Gets a Docker Engine and a static busybox for the tests: the distribution's packages, unpacked below node_modules. Nothing is
 * installed, because an installed Engine would be started, and write its rules on this machine.
 */
import { existsSync, globSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { run } from '../src/drivers/exec.ts';

/** Where the packages are unpacked, as below `/`. */
export const ENGINE_ROOT = resolve(import.meta.dirname, '../node_modules/.cache/clawnode-engine');

const PACKAGES = ['docker.io', 'busybox-static'];
const DOWNLOAD_TIMEOUT_MS = 10 * 60_000;

/** Needs root, as the tests do that use it. Throws ProcessError with apt's first complaint. */
export async function prepareEngine(signal: AbortSignal): Promise<void> {
  if (existsSync(ENGINE_ROOT)) return;
  process.stderr.write(`fetching ${PACKAGES.join(' ')} for the tests ...\n`);
  const work = `${ENGINE_ROOT}.${process.pid}`;
  const archives = `${work}/archives`;
  await mkdir(`${archives}/partial`, { recursive: true });
  try {
    await download(archives, signal).catch(async () => {
      // The lists of a fresh machine are empty, and those of an old one name packages that are gone.
      await run(['apt-get', '-q', 'update'], { signal, timeoutMs: DOWNLOAD_TIMEOUT_MS });
      await download(archives, signal);
    });
    for (const file of globSync(`${archives}/*.deb`)) await run(['dpkg', '-x', file, `${work}/root`], { signal, timeoutMs: 60_000 });
    await rename(`${work}/root`, ENGINE_ROOT);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function download(archives: string, signal: AbortSignal): Promise<void> {
  const options = ['-o', `Dir::Cache::archives=${archives}`, '-o', 'Debug::NoLocking=1', '-o', 'APT::Sandbox::User=root'];
  // Reinstalled, so that what is installed here is downloaded as well.
  await run(['env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-q', '-y', ...options, 'install', '--reinstall', '--download-only', '--no-install-recommends', ...PACKAGES], {
    signal,
    timeoutMs: DOWNLOAD_TIMEOUT_MS,
  });
}
