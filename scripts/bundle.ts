/**
 * `npm run bundle`: packs the MCP server with all that it needs into bundle/NAME-VERSION.mcpb for Claude Desktop. It downloads nothing,
 * does not sign, touches nothing else in the checkout, and puts the file there only once it is whole.
 */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { run } from '../src/drivers/exec.ts';
import { bundleManifest, packageSchema, type Package } from './bundle-manifest.ts';

const root = resolve(import.meta.dirname, '..');
const MCPB = join(root, 'node_modules', '.bin', 'mcpb');

/** Of a lockfile of version 3. */
const lockSchema = z.object({
  packages: z.record(z.string(), z.object({ dev: z.boolean().optional(), optional: z.boolean().optional(), devOptional: z.boolean().optional(), peer: z.boolean().optional() })),
});

const { promise: stopped, reject: stop } = Promise.withResolvers<never>();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => stop(new Error(`stopped by ${signal}`)));

const staging = mkdtempSync(join(tmpdir(), 'clawnode-bundle-'));
try {
  process.stdout.write(await Promise.race([pack(join(staging, 'content')), stopped]));
} catch (error) {
  process.stderr.write(`no bundle was made: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
} finally {
  rmSync(staging, { recursive: true, force: true });
}
// What was stopped half way may still have a child that is running.
if (process.exitCode === 1) process.exit();

async function pack(content: string): Promise<string> {
  const manifest = packageSchema.parse(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')));
  await stage(content, manifest);
  const packed = join(staging, 'packed.mcpb');
  await run([MCPB, 'validate', join(content, 'manifest.json')]);
  await run([MCPB, 'pack', content, packed], { timeoutMs: 120_000 });
  const target = join(root, 'bundle', `${manifest.name}-${manifest.version}.mcpb`);
  mkdirSync(join(root, 'bundle'), { recursive: true });
  // A rename works within one file system only, and the temporary directory may be another one.
  cpSync(packed, `${target}.new`);
  renameSync(`${target}.new`, target);
  return `${target} (${(statSync(target).size / 1024 / 1024).toFixed(1)} MB)\n`;
}

async function stage(content: string, { name, version, description, license, type, engines, dependencies, ...rest }: Package): Promise<void> {
  mkdirSync(content);
  await run([process.execPath, join(root, 'scripts', 'build.ts'), '--out', join(content, 'dist')], { timeoutMs: 120_000 });
  for (const path of ['bin', 'LICENSE', ...productionModules()]) cpSync(join(root, path), join(content, path), { recursive: true, dereference: true, filter: notNested(path) });
  writeJson(join(content, 'package.json'), { name, version, description, license, type, engines, dependencies });
  writeJson(join(content, 'manifest.json'), bundleManifest({ name, version, description, license, type, engines, dependencies, ...rest }));
}

/** The directories of the packages that the program needs, as the lockfile has them: none that is for development, nor the Node.js of a checkout. */
function productionModules(): string[] {
  const { packages } = lockSchema.parse(JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')));
  return Object.entries(packages).flatMap(([path, { dev, optional, devOptional, peer }]) => (path === '' || [dev, optional, devOptional, peer].includes(true) ? [] : [path]));
}

/** A package without those that lie inside it: each has its own entry in the lockfile, or is not needed. */
function notNested(path: string): (source: string) => boolean {
  const nested = join(root, path, 'node_modules');
  return (source) => source !== nested;
}

function writeJson(path: string, value: unknown): void {
  writeFileSync(path, `${JSON.stringify(value, null, 2)}\n`);
}
