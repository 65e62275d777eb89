/** Packs a copy of this checkout, so that neither its package.json nor its dist is touched while others use them. */
import assert from 'node:assert/strict';
import { cp, mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { checkout } from '../cli/sandbox-fixture.ts';
import { npmEnvironment, runToEnd, type Outcome } from './openclaw-host.ts';

const PACK_TIMEOUT_MS = 3 * 60_000;
const LEFT_OUT = new Set(['node_modules', 'dist', '.git']);

export interface Copy {
  readonly directory: string;
  readonly manifest: () => Promise<string>;
  /** `npm pack ARGS...` */
  readonly pack: (args?: readonly string[]) => Promise<Outcome>;
  readonly tarball: string;
  readonly close: () => Promise<void>;
}

/** A copy that has the checkout's dependencies by a link. */
export async function copyOfCheckout(): Promise<Copy> {
  const directory = await mkdtemp(join(tmpdir(), 'claw-pack-'));
  await cp(checkout, directory, { recursive: true, filter: (source) => !LEFT_OUT.has(relative(checkout, source)) });
  await symlink(join(checkout, 'node_modules'), join(directory, 'node_modules'));
  const { version } = JSON.parse(await readFile(join(checkout, 'package.json'), 'utf8'));
  assert.equal(typeof version, 'string');
  return {
    directory,
    manifest: () => readFile(join(directory, 'package.json'), 'utf8'),
    pack: (args = []) => runToEnd(['npm', 'pack', ...args], { env: npmEnvironment(), cwd: directory, timeoutMs: PACK_TIMEOUT_MS }),
    tarball: join(directory, `clawbernetes-networking-${String(version)}.tgz`),
    close: () => rm(directory, { recursive: true, force: true }),
  };
}
