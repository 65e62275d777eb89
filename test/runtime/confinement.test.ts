/** The plan of private mounts: what is hidden stays hidden, what is exposed is reachable at its own path. */
import { strict as assert } from 'node:assert';
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { planViews } from '../../src/runtime/confinement.ts';

async function tree(t: TestContext): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'clawnode-view-'));
  t.after(() => rm(root, { recursive: true }));
  await chmod(root, 0o755);
  await mkdir(join(root, 'state/proxy'), { recursive: true });
  await mkdir(join(root, 'home/code/src'), { recursive: true });
  await writeFile(join(root, 'home/code/src/main.js'), '');
  return root;
}

test('a hidden directory is covered, through a symbolic link too', async (t) => {
  const root = await tree(t);
  await symlink(join(root, 'state'), join(root, 'link'));
  assert.deepEqual(planViews({ hide: [join(root, 'link')] }), [{ kind: 'cover', path: join(root, 'state') }]);
});

test('a hidden directory that does not exist is refused', async (t) => {
  const root = await tree(t);
  assert.throws(() => planViews({ hide: [join(root, 'nowhere')] }), { code: 'CONFIG_INVALID' });
});

test('what lies below a hidden directory is exposed into it; what is visible anyway needs no mount', async (t) => {
  const root = await tree(t);
  const expose = [{ path: join(root, 'state/proxy'), access: 'write' }, { path: join(root, 'home'), access: 'read' }] as const;
  assert.deepEqual(planViews({ hide: [join(root, 'state')], expose }), [
    { kind: 'cover', path: join(root, 'state') },
    { kind: 'write', path: join(root, 'state/proxy') },
  ]);
});

test('a hidden directory inside an exposed one stays hidden', async (t) => {
  const root = await tree(t);
  const plan = planViews({ hide: [root, join(root, 'home/code/src')], expose: [{ path: join(root, 'home/code'), access: 'read' }] });
  assert.deepEqual(plan.map(({ kind, path }) => [kind, path.slice(root.length)]), [
    ['cover', ''],
    ['read', '/home/code'],
    ['cover', '/home/code/src'],
  ]);
});

test('what is frozen stays so below, but for what is hidden or exposed to be written; what is not there is left out', async (t) => {
  const root = await tree(t);
  await symlink(join(root, 'home'), join(root, 'link'));
  const request = {
    hide: [join(root, 'state')],
    freeze: [root, join(root, 'link/code'), join(root, 'nowhere'), join(root, 'home/code/src/main.js/none'), join(root, 'state/proxy')],
    expose: [{ path: join(root, 'home/code/src'), access: 'write' }, { path: join(root, 'home/code'), access: 'read' }, { path: root, access: 'read' }],
  } as const;
  assert.deepEqual(planViews(request).map(({ kind, path }) => [kind, path.slice(root.length)]), [
    ['freeze', ''],
    ['write', '/home/code/src'],
    ['cover', '/state'],
  ]);
  assert.deepEqual(planViews({ hide: [], freeze: [join(root, 'link')] }), [{ kind: 'freeze', path: join(root, 'home') }]);
});

test('with a sandbox\'s own directory those of others are hidden; a link of such a name hides nothing', async (t) => {
  const root = await tree(t);
  for (const name of ['clawnode-sandbox-a', 'clawnode-sandbox-b', 'other']) await mkdir(join(root, name, 'state'), { recursive: true });
  await symlink(join(root, 'home'), join(root, 'clawnode-sandbox-c'));
  await writeFile(join(root, 'clawnode-sandbox-d'), '');
  const hidden = planViews({ hide: [join(root, 'clawnode-sandbox-a/state')] });
  assert.deepEqual(hidden.map(({ kind, path }) => [kind, path.slice(root.length)]), [['cover', '/clawnode-sandbox-a/state'], ['cover', '/clawnode-sandbox-b']]);
  assert.deepEqual(planViews({ hide: [join(root, 'other')] }).map(({ path }) => path), [join(root, 'other')]);
});

test('for another uid a closed parent is covered, and of a closed directory its open parts are exposed', async (t) => {
  const root = await tree(t);
  await chmod(join(root, 'home'), 0o700);
  const expose = [{ path: join(root, 'home/code'), access: 'read' }] as const;
  const shown = (): [string, string][] => planViews({ hide: [], expose, uid: 65_533 }).map(({ kind, path }) => [kind, path.slice(root.length)]);
  assert.deepEqual(shown(), [['cover', '/home'], ['read', '/home/code']]);
  await chmod(join(root, 'home/code'), 0o700);
  await writeFile(join(root, 'home/code/secret'), '', { mode: 0o600 });
  assert.deepEqual(shown(), [['cover', '/home'], ['read', '/home/code/src']]);
  assert.deepEqual(planViews({ hide: [], expose }), []);
});
