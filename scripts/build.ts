/** Builds the published program into dist, or into `--out DIR`: JavaScript of src and tools, and the shell scripts that lie beside it. Node strips no types below node_modules. */
import { cpSync, globSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { run } from '../src/drivers/exec.ts';

const root = resolve(import.meta.dirname, '..');
const { values } = parseArgs({ options: { out: { type: 'string', default: join(root, 'dist') } } });
const out = resolve(values.out);

rmSync(out, { recursive: true, force: true });
await run([join(root, 'node_modules', '.bin', 'tsc'), '-p', join(root, 'tsconfig.build.json'), '--outDir', out], { timeoutMs: 120_000 });
for (const script of globSync('src/**/*.sh', { cwd: root })) cpSync(join(root, script), join(out, script));
