/** The package: what it holds, and that packing leaves the checkout as it was, also when it fails. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { z } from 'zod';
import { run } from '../../src/drivers/exec.ts';
import { eventually } from '../cli/sandbox-fixture.ts';
import { copyOfCheckout } from './openclaw-package.ts';

const copy = await copyOfCheckout();
const kept = join(copy.directory, 'package.json.unpacked');
const original = await copy.manifest();
after(copy.close);

test('the package runs without a build, needs nothing of the checkout, and package.json is as it was', async () => {
  const { exitCode, stderr } = await copy.pack();
  assert.equal(exitCode, 0, stderr);
  assert.equal(await copy.manifest(), original);
  assert.ok(!existsSync(kept));

  const { stdout: names } = await run(['tar', '-tf', copy.tarball]);
  const files = names.trim().split('\n');
  for (const file of ['bin/clawnode.js', 'dist/src/surfaces/openclaw.js', 'dist/src/surfaces/cli/main.js', 'openclaw.plugin.json', 'SKILL.md']) {
    assert.ok(files.includes(`package/${file}`), file);
  }
  assert.deepEqual(files.filter((file) => /\.ts$|package-lock|unpacked|\/test\//.test(file)), []);

  const { stdout } = await run(['tar', '-xOf', copy.tarball, 'package/package.json']);
  const { optionalDependencies, ...rest } = z.record(z.string(), z.unknown()).parse(JSON.parse(original));
  assert.ok(optionalDependencies !== undefined);
  assert.deepEqual(JSON.parse(stdout), rest);
});

test('a packing that fails after package.json was changed gives it back', async () => {
  const { exitCode, stderr } = await copy.pack(['--pack-destination', join(copy.directory, 'no', 'such', 'place')]);
  assert.notEqual(exitCode, 0);
  assert.match(stderr, /ENOENT/);
  await eventually(async () => existsSync(kept), (still) => !still);
  assert.equal(await copy.manifest(), original);
});

test('a build that fails packs nothing and changes nothing', async () => {
  const broken = join(copy.directory, 'src', 'broken.ts');
  await writeFile(broken, 'export const port: number = "eighty";\n');
  await rm(copy.tarball, { force: true });
  assert.notEqual((await copy.pack()).exitCode, 0);
  await rm(broken);
  assert.ok(!existsSync(copy.tarball));
  assert.equal(await copy.manifest(), original);
});

test('what a packer left behind that was killed is put back by the next, and a living one is left alone', async () => {
  const { optionalDependencies: _, ...rest } = JSON.parse(original);
  const stripped = `${JSON.stringify(rest, null, 2)}\n`;
  const leaveBehind = async (pid: number): Promise<void> => {
    await writeFile(join(copy.directory, 'package.json'), stripped);
    await writeFile(kept, JSON.stringify({ pid, original, stripped }));
  };
  await leaveBehind(process.pid);
  const { exitCode, stderr } = await copy.pack();
  assert.notEqual(exitCode, 0);
  assert.match(stderr, new RegExp(`process ${process.pid} packs this checkout already`));
  assert.equal(await copy.manifest(), stripped);

  const { stdout: pidOfTheDead } = await run(['sh', '-c', 'echo $$']);
  await leaveBehind(Number(pidOfTheDead));
  assert.equal((await copy.pack()).exitCode, 0);
  assert.equal(await copy.manifest(), original);
});

test('an edit made while packing is not lost', async () => {
  const edited = `${original.trimEnd().slice(0, -1)},"private":true}\n`;
  await writeFile(join(copy.directory, 'package.json'), edited);
  await writeFile(kept, JSON.stringify({ pid: process.pid, original, stripped: '{}' }));
  const put = await run([process.execPath, join(copy.directory, 'scripts', 'postpack.ts')], { okExitCodes: [1] });
  assert.match(put.stderr, /was edited while it was packed/);
  assert.equal(await copy.manifest(), edited);
  assert.match(await readFile(kept, 'utf8'), /optionalDependencies/);
});
