/**
 * `npm run bench`: runs the benches one after the other, each in namespaces of its own, and compares what they measured with
 * the targets. It never touches the network of the machine. Usage: `node bench/main.ts [name ...]`.
 */
import { once } from 'node:events';
import { readlinkSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { z } from 'zod';
import { run, start, type Argv } from '../src/drivers/exec.ts';
import { figure, passed, table, type Bench, type Figure } from './figures.ts';
import { describeMachine } from './machine.ts';

/** By the letter that docs/performance.md gives them. */
const BENCHES: Readonly<Record<string, () => Promise<Bench>>> = {
  a: async () => (await import('./many-services.ts')).manyServices,
  b: async () => (await import('./one-create.ts')).oneCreate,
  c: async () => (await import('./connect.ts')).connectLatency,
  d: async () => (await import('./agent-start.ts')).agentStart,
  e: async () => (await import('./throughput.ts')).throughput,
};

// As an ordinary user all would be measured under the limit that a user namespace sets to a transaction of nf_tables, 212,992 bytes.
const NAMESPACES: Argv = ['unshare', '--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
const OUTSIDE = 'CLAWNODE_BENCH_HOST_NETNS';

const [first, ...rest] = process.argv.slice(2);
if (first === '--inside') await runInside(rest[0] ?? '');
else process.exitCode = await runAll(first === undefined ? Object.keys(BENCHES) : [first, ...rest]);

async function runAll(names: readonly string[]): Promise<number> {
  const unknown = names.filter((name) => !(name in BENCHES));
  if (unknown.length > 0 || process.geteuid?.() !== 0) {
    print(unknown.length > 0 ? `no such bench: ${unknown.join(' ')}; there are ${Object.keys(BENCHES).join(' ')}` : 'The benches need root: they measure in network namespaces of their own what an agent in host mode does.');
    return 2;
  }
  print(await describeMachine());
  let missed = 0;
  for (const name of names) {
    const bench = await BENCHES[name]?.();
    process.stderr.write(`${name}: ${bench?.title ?? ''}\n`);
    const figures = await runSeparately(name);
    missed += figures.filter((one) => !passed(one)).length;
    print(`\n(${name}) ${bench?.title ?? ''}\n\n${table(figures)}`);
  }
  print(missed === 0 ? '\nEvery target is met.' : `\n${missed} ${missed === 1 ? 'target is' : 'targets are'} missed.`);
  return missed === 0 ? 0 : 1;
}

async function runSeparately(name: string): Promise<Figure[]> {
  const [program, ...args] = NAMESPACES;
  const env = { ...process.env, [OUTSIDE]: readlinkSync('/proc/self/ns/net') };
  const child = start([program, ...args, process.execPath, import.meta.filename, '--inside', name], { stdio: ['ignore', 'pipe', 'inherit'], env });
  const [[exitCode], stdout] = await Promise.all([once(child, 'close'), child.stdout === null ? '' : text(child.stdout)]);
  if (exitCode !== 0) throw new Error(`bench ${name} ended with ${exitCode}`);
  return z.array(figure).parse(JSON.parse(stdout));
}

async function runInside(name: string): Promise<void> {
  const outside = process.env[OUTSIDE];
  if (outside === undefined || outside === readlinkSync('/proc/self/ns/net')) throw new Error('a bench runs only in a network namespace of its own');
  await run(['mount', '-t', 'tmpfs', 'tmpfs', '/run']);
  await run(['mount', '-t', 'sysfs', 'sysfs', '/sys']);
  await run(['ip', 'link', 'set', 'lo', 'up']);
  const bench = await BENCHES[name]?.();
  print(JSON.stringify((await bench?.run()) ?? []));
}

function print(words: string): void {
  process.stdout.write(`${words}\n`);
}
