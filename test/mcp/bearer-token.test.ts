/** The token's file: made private, read only when it is private, and compared as a whole. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmod, chown, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { start } from '../../src/drivers/exec.ts';
import { ClawError } from '../../src/errors.ts';
import { defaultTokenFile, isAuthorized, readOrMakeToken } from '../../src/surfaces/bearer-token.ts';

const folder = await mkdtemp(join(tmpdir(), 'claw-token-'));
after(() => rm(folder, { recursive: true, force: true }));

test('a missing file is made, with mode 0600 in a private directory, and kept', async () => {
  const file = join(folder, 'made', 'deeper', 'token');
  const token = await readOrMakeToken(file);
  assert.match(token, /^[\w-]{43}$/);
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  assert.equal((await stat(join(folder, 'made'))).mode & 0o777, 0o700);
  assert.equal(await readFile(file, 'utf8'), `${token}\n`);
  assert.equal(await readOrMakeToken(file), token);
  assert.notEqual(await readOrMakeToken(join(folder, 'other')), token);
});

test('programs that start at once agree on one token', async () => {
  const file = join(folder, 'at-once');
  const tokens = await Promise.all(Array.from({ length: 8 }, () => readOrMakeToken(file)));
  assert.deepEqual([...new Set(tokens)], [(await readFile(file, 'utf8')).trim()]);
  assert.deepEqual((await readdir(folder)).filter((name) => name.startsWith('at-once')), ['at-once']);
});

test('a file that others may use is refused, and stays as it is', async () => {
  for (const mode of [0o640, 0o604, 0o620, 0o644, 0o660]) {
    const file = join(folder, `mode-${mode.toString(8)}`);
    await writeFile(file, `${'t'.repeat(32)}\n`);
    await chmod(file, mode);
    const error = await refusal(file);
    assert.match(error.message, new RegExp(`has mode ${mode.toString(8)}`));
    assert.match(error.hint ?? '', /chmod 600/);
    assert.ok(!error.message.includes('ttt'));
    assert.equal((await stat(file)).mode & 0o777, mode);
  }
});

test('a file of another user is refused', { skip: process.getuid?.() === 0 ? false : 'only root can give a file away' }, async () => {
  const file = join(folder, 'foreign');
  await writeFile(file, 't'.repeat(32), { mode: 0o600 });
  await chown(file, 4242, 4242);
  assert.match((await refusal(file)).message, /belongs to uid 4242/);
});

test('a file without a token, or with a short or broken one, is refused', async () => {
  for (const [name, content] of [['empty', ''], ['short', 'abc'], ['two-lines', `${'a'.repeat(20)}\n${'b'.repeat(20)}`], ['control', `${'a'.repeat(20)}\u0001`], ['long', 'a'.repeat(5_000)]] as const) {
    const file = join(folder, name);
    await writeFile(file, content, { mode: 0o600 });
    assert.match((await refusal(file)).message, /holds no token/, name);
  }
  assert.match((await refusal(folder)).message, /token file/);
});

test('a directory or a named pipe is no file, which is told at once and without advice to change its rights', { skip: process.platform === 'win32' ? 'there are no named pipes in directories' : false }, async () => {
  const pipe = join(folder, 'pipe');
  await once(start(['mkfifo', '-m', '600', pipe], { stdio: 'ignore' }), 'exit');
  for (const file of [pipe, folder]) {
    const { message, hint } = await refusal(file);
    assert.match(message, /is no regular file/);
    assert.doesNotMatch(hint ?? '', /chmod/);
  }
});

test('only the whole token is the token', () => {
  const token = 'a-token-of-some-length';
  assert.equal(isAuthorized(`Bearer ${token}`, token), true);
  for (const header of [undefined, '', token, 'Bearer', `Bearer ${token}x`, `Bearer ${token.slice(0, -1)}`, `Bearer x${token}`, `Basic ${token}`]) {
    assert.equal(isAuthorized(header, token), false, header);
  }
});

test('its usual place is the configuration directory of the user', () => {
  assert.equal(defaultTokenFile({ XDG_CONFIG_HOME: '/x' }), join('/x', 'clawnode', 'mcp-token'));
  assert.match(defaultTokenFile({}), /\.config.clawnode.mcp-token$/);
});

async function refusal(file: string): Promise<ClawError> {
  const error: unknown = await readOrMakeToken(file).then(() => assert.fail(`${file} was taken`), (thrown: unknown) => thrown);
  assert.ok(error instanceof ClawError, String(error));
  assert.deepEqual({ code: error.code, path: error.path }, { code: 'CONFIG_INVALID', path: 'token-file' });
  return error;
}
