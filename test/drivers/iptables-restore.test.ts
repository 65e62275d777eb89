/** The long-lived restore process, played by a small program that reads like iptables-restore and fails as told. */
import { strict as assert } from 'node:assert';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { start } from '../../src/drivers/exec.ts';
import { openRestoreProcess, type RestoreProcess } from '../../src/drivers/iptables-restore.ts';

/** Echoes comments; `!exit N TEXT` ends with TEXT on stderr, `!hang` reads no further, `!kill` ends by a signal. */
const PROGRAM = `
  let line = 0, hangs = false;
  require('node:readline').createInterface({ input: process.stdin }).on('line', (text) => {
    line += 1;
    if (hangs) return;
    if (text.startsWith('#')) process.stdout.write(text + '\\n');
    const [, code, message] = /^!exit (\\d+) ?(.*)$/.exec(text) ?? [];
    if (code !== undefined) { process.stderr.write(message.replace('%', line) + '\\n'); process.exit(Number(code)); }
    if (text === '!hang') hangs = true;
    if (text === '!kill') process.kill(process.pid, 'SIGKILL');
  });
`;

const TABLE = '*nat\n:CLAW-A - [0:0]\nCOMMIT\n';

test('payload after payload is proved by the same process', async () => {
  await using restore = open();
  for (let n = 0; n < 50; n += 1) await restore.commit(TABLE, { timeoutMs: 10_000 });
  assert.equal(restore.exits, 0);
});

test('a payload far larger than a pipe holds is written whole', async () => {
  await using restore = open();
  await restore.commit(`*nat\n${'-A CLAW-A -j RETURN\n'.repeat(200_000)}COMMIT\n`, { timeoutMs: 30_000 });
});

test('a refusal tells the message and the line of this payload, though the process counts over its life', async () => {
  await using restore = open();
  await restore.commit(TABLE, { timeoutMs: 10_000 });
  await assert.rejects(restore.commit('*nat\n!exit 2 line % failed: Bad rule\nCOMMIT\n', { timeoutMs: 10_000 }), {
    code: 'KERNEL_REFUSED',
    message: /exited with 2: line 6 failed: Bad rule: at `!exit 2 line % failed: Bad rule`$/,
  });
  assert.equal(restore.exits, 1);
});

test('any exit without proof is a failure, also with code 0 or by a signal, and the next commit starts anew', async () => {
  await using restore = open();
  for (const [end, message] of [['!exit 0', /exited with 0/], ['!exit 1', /exited with 1/], ['!kill', /was killed/]] as const) {
    await assert.rejects(restore.commit(`*nat\n${end}\nCOMMIT\n`, { timeoutMs: 10_000 }), { code: 'KERNEL_REFUSED', message });
    await restore.commit(TABLE, { timeoutMs: 10_000 });
  }
  assert.equal(restore.exits, 3);
});

test('a missing proof ends the process after the timeout', async () => {
  await using restore = open();
  await assert.rejects(restore.commit('*nat\n!hang\nCOMMIT\n', { timeoutMs: 300 }), { code: 'TIMEOUT' });
  assert.equal(restore.exits, 1);
  await restore.commit(TABLE, { timeoutMs: 10_000 });
});

test('an abort ends the process with the reason of the signal; an aborted signal starts none', async () => {
  await using restore = open();
  const controller = new AbortController();
  const commit = restore.commit('*nat\n!hang\nCOMMIT\n', { timeoutMs: 10_000, signal: controller.signal });
  await sleep(50);
  controller.abort(new Error('enough'));
  await assert.rejects(commit, { message: 'enough' });
  await assert.rejects(restore.commit(TABLE, { timeoutMs: 10_000, signal: controller.signal }), { message: 'enough' });
  assert.equal(restore.exits, 1);
});

test('one payload is in flight at a time', async () => {
  await using restore = open();
  const commit = restore.commit(TABLE, { timeoutMs: 10_000 });
  await assert.rejects(restore.commit(TABLE, { timeoutMs: 10_000 }), { code: 'INTERNAL' });
  await commit;
});

test('a program that is not installed is told as such', async () => {
  const restore = openRestoreProcess({ argv: ['clawnode-no-such-program'], onExit: () => undefined });
  await assert.rejects(restore.commit(TABLE, { timeoutMs: 10_000 }), { code: 'MISSING_BINARY', message: /clawnode-no-such-program/ });
  await restore.close();
});

test('closing ends the process, and is harmless twice or when none runs', async () => {
  const restore = open();
  await restore.close();
  await restore.commit(TABLE, { timeoutMs: 10_000 });
  await restore.close();
  await restore.close();
  assert.equal(restore.exits, 1);
});

test('the process is killed by the kernel when we are, even when it does not read its input', async () => {
  // The inner program tells its pid and then reads nothing, so that only a signal can end it.
  const inner = "require('node:fs').writeFileSync(process.argv[1], String(process.pid)); setInterval(() => {}, 1000);";
  const script = `
    import { openRestoreProcess } from ${JSON.stringify(new URL('../../src/drivers/iptables-restore.ts', import.meta.url).href)};
    const program = ${JSON.stringify(inner)};
    void openRestoreProcess({ argv: [process.execPath, '-e', program, process.argv[1]], onExit: () => {} }).commit('*nat\\nCOMMIT\\n', { timeoutMs: 60000 });
  `;
  const folder = await mkdtemp(join(tmpdir(), 'clawnode-restore-'));
  const file = join(folder, 'pid');
  const outer = start([process.execPath, '--input-type=module', '-e', script, file], { stdio: 'ignore' });
  let pid: number | undefined;
  try {
    pid = await untilDefined(async () => Number(await readFile(file, 'utf8').catch(() => '')) || undefined);
    assert.equal(commandLine(pid).includes('setInterval'), true);
    outer.kill('SIGKILL');
    await untilDefined(async () => (pid === undefined || commandLine(pid) === '' ? true : undefined));
  } finally {
    outer.kill('SIGKILL');
    if (pid !== undefined && commandLine(pid).includes(file)) process.kill(pid, 'SIGKILL');
    await rm(folder, { recursive: true });
  }
});

function commandLine(pid: number): string {
  return existsSync(`/proc/${pid}/cmdline`) ? readFileSync(`/proc/${pid}/cmdline`, 'utf8') : '';
}

async function untilDefined<T>(read: () => Promise<T | undefined>): Promise<T> {
  for (let tries = 0; tries < 1000; tries += 1) {
    const value = await read();
    if (value !== undefined) return value;
    await sleep(10);
  }
  throw new Error('it did not happen within ten seconds');
}

interface Opened extends RestoreProcess, AsyncDisposable {
  readonly exits: number;
}

function open(): Opened {
  let exits = 0;
  const restore = openRestoreProcess({ argv: [process.execPath, '-e', PROGRAM], onExit: () => (exits += 1) });
  return {
    ...restore,
    get exits() {
      return exits;
    },
    [Symbol.asyncDispose]: () => restore.close(),
  };
}
