/** The tail of a log: bounded, clean and right across the two files. */
import { strict as assert } from 'node:assert';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { cleanLine, readLogTail } from '../../src/runtime/log-tail.ts';

async function logDirectory(t: TestContext, files: { current?: string | Buffer; previous?: string }): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'clawnode-log-'));
  t.after(() => rm(directory, { recursive: true }));
  await mkdir(join(directory, 'log'));
  for (const [name, content] of Object.entries(files)) await writeFile(join(directory, 'log', name), content);
  return directory;
}

test('no log, an empty log and tail 0 give no lines', async (t) => {
  assert.deepEqual(await readLogTail('/nonexistent', 10), []);
  assert.deepEqual(await readLogTail(await logDirectory(t, { current: '' }), 10), []);
  assert.deepEqual(await readLogTail(await logDirectory(t, { current: 'a\n' }), 0), []);
});

test('the last lines come oldest first, across the rotation, in the middle of a line too', async (t) => {
  const directory = await logDirectory(t, { previous: 'one\ntwo\nth', current: 'ree\nfour' });
  assert.deepEqual(await readLogTail(directory, 2), ['three', 'four']);
  assert.deepEqual(await readLogTail(directory, 100), ['one', 'two', 'three', 'four']);
});

test('only the end of a long log is read, and never half a line', async (t) => {
  const lines = Array.from({ length: 200_000 }, (_, index) => `line ${index}`);
  const found = await readLogTail(await logDirectory(t, { previous: 'older\n', current: `${lines.join('\n')}\n` }), 1_000_000);
  assert.ok(found.length > 50_000 && found.length < 200_000);
  assert.deepEqual(found, lines.slice(-found.length));
});

test('control, ANSI and bidi characters are stripped, tabs and other scripts stay', () => {
  assert.equal(cleanLine('a\tb\r'), 'a\tb');
  assert.equal(cleanLine('\u001b[1;31mred\u001b[0m \u001b]0;title\u0007x \u001b]8;;http://e\u001b\\link\u001b(B'), 'red x link');
  assert.equal(cleanLine('\u202egnp\u202c.\u2066x\u2069\u200f\u0000\u009b31m\u0085é漢🦀'), 'gnp.xé漢🦀');
});

test('a line is capped, and binary output is no error', async (t) => {
  assert.equal(cleanLine('x'.repeat(10_000)).length, 4097);
  const found = await readLogTail(await logDirectory(t, { current: Buffer.from([0xff, 0xfe, 0x00, 0x41, 0x0a, 0x80]) }), 10);
  assert.deepEqual(found, ['\ufffd\ufffdA', '\ufffd']);
});
