/** Installs Debian and Ubuntu packages with apt-get, as root only; it never chooses what to install. */
import { geteuid } from 'node:process';
import { run, type Argv } from '../../drivers/exec.ts';
import type { Finding } from './doctor/finding.ts';

const INSTALL_TIMEOUT_MS = 15 * 60_000;

/** The packages that would bring what is missing, each once. */
export function missingPackages(findings: readonly Finding[]): string[] {
  const missing = findings.filter(({ state }) => state === 'missing');
  return [...new Set(missing.flatMap(({ package: name }) => (name === undefined ? [] : [name])))].toSorted();
}

/** The command line that a person would type. */
export function aptCommand(packages: readonly string[]): string {
  return `${geteuid?.() === 0 ? '' : 'sudo '}apt-get install -y --no-install-recommends ${packages.join(' ')}`;
}

/** Whether this process could install packages: it is root, and apt-get is there. */
export async function canInstall(signal: AbortSignal): Promise<boolean> {
  if (geteuid?.() !== 0) return false;
  return run(['apt-get', '--version'], { signal }).then(() => true, () => false);
}

/** Refreshes the package lists once and installs. Throws ProcessError with apt's first complaint. */
export async function install(packages: readonly string[], signal: AbortSignal): Promise<void> {
  const options = { signal, timeoutMs: INSTALL_TIMEOUT_MS };
  await run(aptGet('update'), options);
  await run(aptGet('install', '-y', '--no-install-recommends', ...packages), options);
}

function aptGet(...args: string[]): Argv {
  // A package that asks a question would wait for ever for an answer.
  return ['env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-q', '-o', 'DPkg::Lock::Timeout=120', ...args];
}
