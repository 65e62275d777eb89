/** Bad input of every kind through `clawnode invoke`: an error that says what, where and what next, and nothing changed. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { z } from 'zod';
import { ERROR_CODES } from '../../src/errors.ts';
import { launcher, runProcess } from '../cli/cli-process.ts';
import { BAD, refusals } from './black-box-refusals-script.ts';

const error = z.strictObject({ code: z.enum(ERROR_CODES), message: z.string().min(8), path: z.string().optional(), hint: z.string().min(5) });
let seen: z.output<typeof refusals>;

before(async () => {
  const script = join(import.meta.dirname, 'black-box-refusals-script.ts');
  const { exitCode, stdout, stderr } = await runProcess([process.execPath, launcher, 'sandbox', '--', process.execPath, script]);
  assert.equal(exitCode, 0, stderr);
  seen = refusals.parse(JSON.parse(stdout));
});

for (const [index, [command, params, code, path]] of BAD.entries()) {
  const given = typeof params === 'string' ? params : JSON.stringify(params);
  test(`${command} ${given.slice(0, 100)}: ${code}${path === undefined ? '' : ` at ${path}`}`, () => {
    const reply = seen.replies[index];
    assert.ok(reply !== undefined);
    assert.deepEqual({ exitCode: reply.exitCode, stdout: reply.stdout }, { exitCode: 1, stdout: '' });
    const told = error.parse(JSON.parse(reply.stderr));
    assert.deepEqual({ code: told.code, path: told.path }, { code, path }, told.message);
  });
}

test('none of it changed state or kernel', () => {
  assert.deepEqual(seen.after, seen.before);
});
