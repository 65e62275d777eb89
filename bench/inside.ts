/** Runs a part of a bench in network, mount and pid namespaces of its own, an empty /run, a place for state on the disk, and brings its figures back. */
import { once } from 'node:events';
import { readlinkSync } from 'node:fs';
import { mkdtempDisposable } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { z } from 'zod';
import { run, start } from '../src/drivers/exec.ts';
import { figure, type Figure } from './figures.ts';

// As an ordinary user all would be measured under the limit that a user namespace sets to a transaction of nf_tables, 212,992 bytes.
const NAMESPACES = ['--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
const STATE = 'CLAWNODE_BENCH_STATE';
const OUTSIDE = 'CLAWNODE_BENCH_HOST_NETNS';

/** Starts the program again, with these arguments, inside; it has to call `enter` and to print its figures as JSON. */
export async function figuresFromInside(program: string, args: readonly string[]): Promise<Figure[]> {
  if (process.geteuid?.() !== 0) throw new Error('This needs root: it measures in network namespaces of its own what an agent in host mode does.');
  // Agents keep their state on a disk, as they do in earnest: /run is empty memory inside, and /tmp may be memory too.
  await using directory = await mkdtempDisposable('/var/tmp/clawnode-bench-');
  const env = { ...process.env, [OUTSIDE]: readlinkSync('/proc/self/ns/net'), [STATE]: directory.path };
  const child = start(['unshare', ...NAMESPACES, process.execPath, program, ...args], { stdio: ['ignore', 'pipe', 'inherit'], env });
  const [[exitCode], stdout] = await Promise.all([once(child, 'close'), child.stdout === null ? '' : text(child.stdout)]);
  if (exitCode !== 0) throw new Error(`${args.join(' ')} ended with ${exitCode}`);
  return z.array(figure).parse(JSON.parse(stdout));
}

/** Refuses to go on in the machine's own network. */
export async function enter(): Promise<void> {
  const outside = process.env[OUTSIDE];
  if (outside === undefined || outside === readlinkSync('/proc/self/ns/net')) throw new Error('this runs only in a network namespace of its own');
  await run(['mount', '-t', 'tmpfs', 'tmpfs', '/run']);
  await run(['mount', '-t', 'sysfs', 'sysfs', '/sys']);
  await run(['ip', 'link', 'set', 'lo', 'up']);
}

/** Where the agent of this name keeps its state: on a disk, until the bench has ended. */
export function stateDirectory(name: string): string {
  const directory = process.env[STATE];
  if (directory === undefined) throw new Error('this runs only inside');
  return join(directory, name);
}
