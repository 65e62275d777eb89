/**
 * Gets this machine ready for `npm run demo` and `npm test`: installs what is missing as root on Debian and Ubuntu, else says
 * exactly what to install. Says nothing when everything is there.
 */
import { parseArgs } from 'node:util';
import { run } from '../src/drivers/exec.ts';
import { systemSearchPath } from '../src/sandbox/search-path.ts';
import { aptCommand, canInstall, install, missingPackages } from '../src/surfaces/cli/apt.ts';
import type { Finding } from '../src/surfaces/cli/doctor/finding.ts';
import { inspectMachine } from '../src/surfaces/cli/doctor/inspect.ts';
import { prepareEngine } from './prepare-engine.ts';

const { values } = parseArgs({ options: { for: { type: 'string' } } });
process.env['PATH'] = systemSearchPath(process.env['PATH']);
process.exitCode = await prepare(new AbortController().signal);
// Only root can start an Engine; without it the tests that need one say that they did not run.
if (process.exitCode === 0 && values.for === 'tests' && process.getuid?.() === 0) {
  await prepareEngine(new AbortController().signal).catch((error: unknown) => (process.exitCode = fail(`the Docker Engine for the tests can not be had: ${String(error)}`)));
}

async function prepare(signal: AbortSignal): Promise<number> {
  if (process.platform !== 'linux') return fail(`this needs a Linux kernel, and ${process.platform} has none: use a virtual machine or a Linux host`);
  const packages = [...missingPackages(await inspectMachine(signal)), ...(values.for === 'tests' ? await testPackages(signal) : [])].toSorted();
  if (packages.length > 0) {
    if (!(await canInstall(signal))) return fail(`this machine lacks some packages. On Debian and Ubuntu:\n\n  ${aptCommand(packages)}\n`);
    process.stderr.write(`installing ${packages.join(' ')} ...\n`);
    await install(packages, signal);
  }
  const lacking = (await inspectMachine(signal)).filter(isObstacle);
  return lacking.length === 0 ? 0 : fail(lacking.map(({ name, detail }) => `${name}: ${detail}`).join('\n'));
}

/** The unit of the service is given to systemd's own checks; none of it has to run for that. */
async function testPackages(signal: AbortSignal): Promise<string[]> {
  return run(['systemd-analyze', '--version'], { signal }).then(() => [], () => ['systemd']);
}

/** Demo and tests run in sandboxes, so they need the namespaces that an agent of the machine itself can do without. */
function isObstacle({ name, need, state }: Finding): boolean {
  return state === 'missing' && (need === 'required' || name === 'user namespaces');
}

function fail(message: string): number {
  process.stderr.write(`${message}\n`);
  return 1;
}
