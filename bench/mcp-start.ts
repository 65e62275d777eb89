/** (g) How long a host waits for the list of tools after it has started the server, as the bundle holds it. */
import { cp, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { run } from '../src/drivers/exec.ts';
import { inRounds, median, short, type Bench } from './figures.ts';

const root = resolve(import.meta.dirname, '..');
const LIMIT_MS = 1000;

export const mcpStart: Bench = {
  title: 'an MCP server: start of the process to the answer to tools/list',
  run: async () => {
    const built = await build();
    try {
      const ours = [join(built, 'bin', 'clawnode.js'), 'mcp', '--mode'];
      // The first of each reads its files from the disk and fills the cache.
      for (const mode of ['model', 'sandbox']) await timeToList([...ours, mode]);
      const valuesOf = await inRounds(async () => ({
        model: await timeToList([...ours, 'model']),
        sandbox: await timeToList([...ours, 'sandbox']),
        peer: await timeToList([join(import.meta.dirname, 'mcp-peer.ts')]),
      }));
      const peers = valuesOf('peer');
      return (['model', 'sandbox'] as const).flatMap((mode) => {
        const own = valuesOf(mode);
        const ratio = median(own.map((ms, round) => ms / (peers[round] ?? NaN)));
        return [
          { what: `${mode}: start to tools/list`, measured: rangeOf(own), value: median(own), unit: ' ms', atMost: LIMIT_MS },
          { what: `${mode}: against a server of the SDK alone`, measured: `${short(median(own))} ms against ${short(median(peers))} ms`, value: ratio },
        ];
      });
    } finally {
      await rm(built, { recursive: true, force: true });
    }
  },
};

/** What the bundle holds, but for the copies of the packages. */
async function build(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'clawnode-bench-'));
  await run([process.execPath, join(root, 'scripts', 'build.ts'), '--out', join(directory, 'dist')], { timeoutMs: 120_000 });
  for (const part of ['bin', 'package.json']) await cp(join(root, part), join(directory, part), { recursive: true });
  const modules = join(directory, 'node_modules');
  await mkdir(modules);
  for (const name of await readdir(join(root, 'node_modules'))) if (!name.startsWith('.')) await symlink(join(root, 'node_modules', name), join(modules, name));
  // It tells the program that it is a bundle, which keeps a compile cache.
  await writeFile(join(directory, 'manifest.json'), '{}\n');
  return directory;
}

async function timeToList(args: readonly string[]): Promise<number> {
  const startedAt = performance.now();
  const client = new Client({ name: 'bench', version: '1' });
  await client.connect(new StdioClientTransport({ command: process.execPath, args: [...args], stderr: 'ignore' }));
  await client.listTools();
  const ms = performance.now() - startedAt;
  await client.close();
  return ms;
}

function rangeOf(values: readonly number[]): string {
  return `${short(Math.min(...values))} to ${short(Math.max(...values))} ms`;
}
