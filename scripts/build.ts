/** Builds the published program into dist: JavaScript of src and tools, and the shell scripts that lie beside it. Node strips no types below node_modules. */
import { cpSync, globSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { run } from '../src/drivers/exec.ts';

const root = resolve(import.meta.dirname, '..');

rmSync(join(root, 'dist'), { recursive: true, force: true });
await run([join(root, 'node_modules', '.bin', 'tsc'), '-p', join(root, 'tsconfig.build.json')], { timeoutMs: 120_000 });
for (const script of globSync('src/**/*.sh', { cwd: root })) cpSync(join(root, script), join(root, 'dist', script));
