/**
 * `npm run bench`: runs the benches one after the other, each in namespaces of its own, and compares what they measured with
 * the targets. It never touches the network of the machine. Usage: `node bench/main.ts [a] [b] [c] [d] [e] [f] [g]`.
 */
import { passed, table, type Bench } from './figures.ts';
import { enter, figuresFromInside } from './inside.ts';
import { describeMachine } from './machine.ts';

/** By the letter that docs/performance.md gives them. */
const BENCHES: Readonly<Record<string, () => Promise<Bench>>> = {
  a: async () => (await import('./many-services.ts')).manyServices,
  b: async () => (await import('./one-create.ts')).oneCreate,
  c: async () => (await import('./connect.ts')).connectLatency,
  d: async () => (await import('./agent-start.ts')).agentStart,
  e: async () => (await import('./throughput.ts')).throughput,
  f: async () => (await import('./policies.ts')).policies,
  g: async () => (await import('./mcp-start.ts')).mcpStart,
};

const [first, ...rest] = process.argv.slice(2);
if (first === '--inside') {
  const bench = await load(rest[0] ?? '');
  await enter();
  print(JSON.stringify(await bench.run()));
} else {
  process.exitCode = await runAll(first === undefined ? Object.keys(BENCHES) : [first, ...rest]);
}

async function runAll(names: readonly string[]): Promise<number> {
  print(await describeMachine());
  let missed = 0;
  for (const name of names) {
    const { title } = await load(name);
    process.stderr.write(`(${name}) ${title}\n`);
    const figures = await figuresFromInside(import.meta.filename, ['--inside', name]);
    missed += figures.filter((one) => !passed(one)).length;
    print(`\n(${name}) ${title}\n\n${table(figures)}`);
  }
  print(missed === 0 ? '\nEvery target is met.' : `\n${missed} ${missed === 1 ? 'target is' : 'targets are'} missed.`);
  return missed === 0 ? 0 : 1;
}

async function load(name: string): Promise<Bench> {
  const bench = await BENCHES[name]?.();
  if (bench === undefined) throw new Error(`there is no bench ${name}, only ${Object.keys(BENCHES).join(' ')}`);
  return bench;
}

function print(words: string): void {
  process.stdout.write(`${words}\n`);
}
