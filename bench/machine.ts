/** Says on which machine and with which programs was measured. */
import { cpus, release, totalmem } from 'node:os';
import { readFile } from 'node:fs/promises';
import { run } from '../src/drivers/exec.ts';

export async function describeMachine(): Promise<string> {
  const { stdout } = await run(['iptables-nft', '--version']);
  const name = /^PRETTY_NAME="?([^"\n]+)/m.exec(await readFile('/etc/os-release', 'utf8'))?.[1] ?? 'an unknown system';
  const [cpu] = cpus();
  return `${name}, kernel ${release()}, ${cpus().length} CPUs (${cpu?.model.trim() ?? 'unknown'}), ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}, ${stdout.trim()}`;
}
