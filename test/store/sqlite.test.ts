/** The SQLite driver: the contract, and what only a file can do: be killed, be damaged, belong to someone else. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import * as fc from 'fast-check';
import { start } from '../../src/drivers/exec.ts';
import { ClawError } from '../../src/errors.ts';
import { openSqliteStore } from '../../src/store/sqlite.ts';
import type { Compare, Store, StoreItem, StoreOp } from '../../src/store/store.ts';
import { describeStore } from './contract.ts';
import { CHILD, put, take } from './fixture.ts';

describeStore('sqlite', async (options = {}) => {
  const directory = mkdtempSync(join(tmpdir(), 'claw-store-'));
  const path = join(directory, 'state.db');
  const handles: Store[] = [];
  const open = async (): Promise<Store> => {
    const store = await openSqliteStore(path, options);
    handles.push(store);
    return store;
  };
  const store = await open();
  return {
    store,
    openSecond: open,
    reopen: async () => {
      await store.close();
      return open();
    },
    child: ['sqlite', path],
    remove: async () => {
      for (const handle of handles) await handle.close();
      rmSync(directory, { recursive: true });
    },
  };
});

describe('the file', () => {
  inDirectory('has mode 0600, with all that SQLite puts beside it, whatever the umask and its old mode', async (path) => {
    const before = process.umask(0);
    try {
      const store = await openSqliteStore(path);
      await put(store, 'a', 1);
      assert.deepEqual([path, `${path}-wal`, `${path}-shm`].map(mode), [0o600, 0o600, 0o600]);
      await store.close();
      chmodSync(path, 0o644);
      await (await openSqliteStore(path)).close();
      assert.equal(mode(path), 0o600);
    } finally {
      process.umask(before);
    }
  });

  inDirectory('that is no database is refused and left as it is', async (path) => {
    for (const content of ['{"services": []}', 'SQLite format 3\0 and then nonsense '.repeat(40)]) {
      writeFileSync(path, content, { mode: 0o644 });
      await assert.rejects(openSqliteStore(path), failsWithHint(/another store file/));
      assert.equal(readFileSync(path, 'utf8'), content);
      assert.equal(mode(path), 0o644);
    }
  });

  inDirectory('of another program is refused and left as it is', async (path) => {
    using db = new DatabaseSync(path);
    db.exec('CREATE TABLE notes (text TEXT); INSERT INTO notes VALUES (1)');
    const before = readFileSync(path);
    await assert.rejects(openSqliteStore(path), failsWithHint(/another store file/));
    assert.deepEqual(readFileSync(path), before);
  });

  inDirectory('of a newer format is refused and left as it is', async (path) => {
    await (await openSqliteStore(path)).close();
    const db = new DatabaseSync(path);
    db.exec('PRAGMA user_version = 2');
    db.close();
    const before = readFileSync(path);
    await assert.rejects(openSqliteStore(path), failsWithHint(/newer/));
    assert.deepEqual(readFileSync(path), before);
  });

  inDirectory('that was damaged is refused and left as it is', async (path) => {
    const store = await openSqliteStore(path);
    for (let index = 0; index < 200; index += 1) await put(store, `k/${index}`, 'x'.repeat(500));
    await store.close();
    const { size } = statSync(path);
    const whole = readFileSync(path);
    writeFileSync(path, Buffer.concat([whole.subarray(0, 8192), Buffer.alloc(8192, 0xa5), whole.subarray(16_384)]));
    const damaged = readFileSync(path);
    await assert.rejects(openSqliteStore(path), failsWithHint(/restore a copy/));
    assert.deepEqual(readFileSync(path), damaged);
    writeFileSync(path, whole);
    truncateSync(path, size - 4096 * 3);
    await assert.rejects(openSqliteStore(path), failsWithHint(/restore a copy/));
  });

  inDirectory('whose directory is missing is refused with a hint', async (path) => {
    await assert.rejects(openSqliteStore(join(path, 'missing', 'state.db')), failsWithHint(/directory/));
  });

  inDirectory('may be made by several at the same moment', async (path) => {
    const stores = await Promise.all(Array.from({ length: 8 }, () => openSqliteStore(path)));
    await Promise.all(stores.map((store, index) => put(store, `k/${index}`, index)));
    assert.equal((await stores[0]?.list(''))?.revision, 8);
    for (const store of stores) await store.close();
  });

  inDirectory('locked by another for a while: the write waits, the event loop runs on', async (path) => {
    const store = await openSqliteStore(path);
    using other = new DatabaseSync(path);
    other.exec('BEGIN IMMEDIATE');
    let turns = 0;
    const timer = setInterval(() => (turns += 1), 5);
    const written = put(store, 'a', 1);
    await sleep(300);
    assert.equal(await store.get('a'), undefined);
    assert.ok(turns > 5, `the event loop turned ${turns} times in 300 ms`);
    other.exec('COMMIT');
    assert.equal((await written).committed, true);
    clearInterval(timer);
    await store.close();
  });

  inDirectory('at rest, then written by another: a watch wakes from the file\'s own events', async (path) => {
    const store = await openSqliteStore(path, { restMs: 3_600_000 });
    const other = await openSqliteStore(path);
    await sleep(1_500);
    const watched = take(store.watch('', 0, AbortSignal.timeout(30_000)), 1);
    await put(other, 'a', 1);
    assert.equal((await watched)[0]?.revision, 1);
    await store.close();
    await other.close();
  });

  inDirectory('damaged while it is open: reads, writes and watches say so', async (path) => {
    const store = await openSqliteStore(path);
    await put(store, 'a', 1);
    using vandal = new DatabaseSync(path);
    vandal.exec("UPDATE items SET value = 'no JSON'");
    await assert.rejects(store.get('a'), /not JSON/);
    vandal.exec('DELETE FROM head');
    await assert.rejects(put(store, 'a', 2), failsWithHint(/restore a copy/));
    const watched = take(store.watch('', 0, AbortSignal.timeout(30_000)), 1);
    vandal.exec('DROP TABLE head');
    await assert.rejects(watched, failsWithHint(/./));
    await store.close();
    await assert.rejects(openSqliteStore(path), failsWithHint(/./));
  });

  inDirectory('keeps the log of events within its bounds', async (path) => {
    const store = await openSqliteStore(path, { keepRevisions: 100 });
    for (let index = 0; index < 1000; index += 1) await put(store, 'a', index);
    await store.close();
    using db = new DatabaseSync(path, { readOnly: true });
    const kept = Number(db.prepare('SELECT count(*) AS kept FROM events').get()?.['kept']);
    assert.ok(kept >= 100 && kept < 110, `${kept} events are kept`);
  });
});

describe('SIGKILL', { timeout: 120_000 }, () => {
  inDirectory('at random moments: nothing acknowledged is lost, no transaction is torn', async (path) => {
    let next = 0;
    for (let round = 0; round < 20; round += 1) {
      const acknowledged = await writePairsAndKill(path, { first: next, afterMs: Math.random() * 120 });
      const store = await openSqliteStore(path);
      const [left, right] = [await numbersUnder(store, 'left/'), await numbersUnder(store, 'right/')];
      assert.deepEqual(left, right);
      assert.deepEqual(left, Array.from(left.keys()));
      assert.ok(left.length > acknowledged, `${acknowledged} was acknowledged, ${left.length} are there`);
      // One more than acknowledged may have been written: killed between the commit and the answer.
      assert.ok(left.length <= acknowledged + 2);
      assert.equal((await store.list('')).revision, left.length);
      const [lastBatch] = await take(store.watch('', left.length - 1, AbortSignal.timeout(10_000)), 1);
      assert.equal(lastBatch?.events.length, 2);
      next = left.length;
      await store.close();
    }
  });
});

describe('against a model', { timeout: 120_000 }, () => {
  const key = fc.constantFrom('a', 'a/', 'a/b', 'b', 'é', '\u{1f600}', '\uffff');
  const op: fc.Arbitrary<StoreOp> = fc.oneof(
    fc.record({ type: fc.constant('put' as const), key, value: fc.jsonValue() }),
    fc.record({ type: fc.constant('delete' as const), key }),
  );
  const ops = fc.uniqueArray(op, { maxLength: 4, selector: (one) => one.key });
  /** How far the compared revision lies from the right one: mostly 0, so that most transactions commit. */
  const compare = fc.record({ key, off: fc.constantFrom(0, 0, 0, 1) });
  const step = fc.oneof(
    { weight: 8, arbitrary: fc.record({ compares: fc.array(compare, { maxLength: 3 }), ops }) },
    { weight: 1, arbitrary: fc.constant('reopen' as const) },
  );

  test('random transactions with restarts in between leave what a plain map would hold, and tell of each of them', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'claw-store-'));
    let file = 0;
    try {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
          file += 1;
          await playAgainstModel(join(directory, `${file}.db`), steps);
        }),
        { numRuns: 60 },
      );
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

type Step = 'reopen' | { readonly compares: readonly { readonly key: string; readonly off: number }[]; readonly ops: readonly StoreOp[] };

async function playAgainstModel(path: string, steps: readonly Step[]): Promise<void> {
  const model = new Map<string, StoreItem>();
  let revision = 0;
  let store = await openSqliteStore(path);
  for (const step of steps) {
    if (step === 'reopen') {
      await store.close();
      store = await openSqliteStore(path);
      continue;
    }
    const compares: Compare[] = step.compares.map(({ key, off }) => ({ key, modRevision: (model.get(key)?.modRevision ?? 0) + off }));
    const conflicts = new Set(step.compares.filter(({ off }) => off !== 0).map(({ key }) => key));
    const result = await store.txn(compares, step.ops);
    if (conflicts.size > 0) {
      assert.deepEqual(result, { committed: false, revision, conflicts: [...conflicts] });
      continue;
    }
    if (step.ops.some((op) => op.type === 'put' || model.has(op.key))) revision += 1;
    for (const op of step.ops) {
      if (op.type === 'delete') model.delete(op.key);
      // The store keeps JSON, which has no negative zero.
      else model.set(op.key, { key: op.key, value: JSON.parse(JSON.stringify(op.value)), modRevision: revision, createRevision: model.get(op.key)?.createRevision ?? revision });
    }
    assert.deepEqual(result, { committed: true, revision });
    const inOrder = [...model.values()].toSorted((a, b) => Buffer.compare(Buffer.from(a.key), Buffer.from(b.key)));
    assert.deepEqual(await store.list(''), { items: inOrder, revision });
  }
  // Whoever follows the events from the beginning holds the same.
  const followed = new Map<string, StoreItem>();
  const batches = revision === 0 ? [] : await take(store.watch('', 0, AbortSignal.timeout(30_000)), revision);
  for (const event of batches.flatMap(({ events }) => events)) {
    if (event.type === 'put') followed.set(event.item.key, event.item);
    else assert.ok(followed.delete(event.key), `${event.key} was deleted without having been there`);
  }
  assert.deepEqual(followed, model);
  await store.close();
}

function inDirectory(title: string, body: (path: string) => Promise<void>): void {
  test(title, async () => {
    const directory = mkdtempSync(join(tmpdir(), 'claw-store-'));
    try {
      await body(join(directory, 'state.db'));
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
}

function mode(path: string): number {
  return statSync(path).mode & 0o777;
}

function failsWithHint(hint: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof ClawError);
    assert.equal(error.code, 'STORE_FAILED');
    assert.match(error.hint ?? '', hint);
    return true;
  };
}

/** Lets a child write pairs, kills it that long after its first answer, and gives the last number it was told of. */
async function writePairsAndKill(path: string, { first, afterMs }: { first: number; afterMs: number }): Promise<number> {
  const child = start([process.execPath, CHILD, 'sqlite', path, 'pairs', String(first)], { stdio: ['ignore', 'pipe', 'inherit'] });
  assert.ok(child.stdout);
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  await Promise.race([once(child.stdout, 'data'), once(child, 'exit')]);
  await sleep(afterMs);
  const closed = once(child, 'close');
  child.kill('SIGKILL');
  await closed;
  const last = Number(output.trim().split('\n').at(-1));
  assert.ok(output !== '' && Number.isInteger(last), `the child wrote ${JSON.stringify(output)}`);
  return last;
}

async function numbersUnder(store: Store, prefix: string): Promise<number[]> {
  const { items } = await store.list(prefix);
  return items.map(({ value }) => Number(value)).toSorted((a, b) => a - b);
}
