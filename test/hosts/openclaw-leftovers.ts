/** Looks for what the plugin may have left in a home of the OpenClaw host: processes of ours, and files. It ends and removes nothing. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../src/drivers/exec.ts';
import type { OpenClawHost } from './openclaw-host.ts';

/** The living processes with this home that run `clawnode` or a program of the installed package. */
export async function ourProcesses({ home }: OpenClawHost, installed: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(
    pids.map(async (pid) => {
      // A process may end while it is looked at.
      const [environment = '', command = ''] = await Promise.all(['environ', 'cmdline'].map((file) => readFile(`/proc/${pid}/${file}`, 'utf8').catch(() => '')));
      const parts = command.split('\0');
      const ours = parts.some((part) => part.includes(installed) || /(^|\/)clawnode(\.js)?$/.test(part));
      return ours && environment.split('\0').includes(`HOME=${home}`) ? [`${pid} ${parts.join(' ')}`] : [];
    }),
  );
  return found.flat();
}

/** What the host and npm write where a program may leave its traces: at home, and among the temporary files. */
const OF_HOST = /^(\.cache|\.npm|\.openclaw|tmp|tmp\/\.?openclaw.*|tmp\/node-compile-cache|tmp\/jiti)$/;

/** What stands at home and among the temporary files that is not the host's. */
export async function otherFiles({ home }: OpenClawHost): Promise<string[]> {
  const temporary = await readdir(join(home, 'tmp'));
  return [...(await readdir(home)), ...temporary.map((name) => `tmp/${name}`)].filter((path) => !OF_HOST.test(path)).toSorted();
}

/** The files of an installed package that its tarball does not hold. */
export async function addedToPackage(directory: string, tarball: string): Promise<string[]> {
  const { stdout } = await run(['tar', '-tf', tarball]);
  const packed = new Set(stdout.split('\n').map((name) => name.replace(/^package\//, '')));
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1));
  return files.filter((file) => !packed.has(file));
}
