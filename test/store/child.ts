/** A process of its own that writes to a store for the tests: `child.ts DRIVER LOCATION ACTION ARG...`; prints what was acknowledged. */
import { writeSync } from 'node:fs';
import { openSqliteStore } from '../../src/store/sqlite.ts';
import type { Store } from '../../src/store/store.ts';

const [driver = '', location = '', action = '', ...args] = process.argv.slice(2);
const store = await openDriver();
await act();
await store.close();

function openDriver(): Promise<Store> {
  if (driver === 'sqlite') return openSqliteStore(location);
  throw new Error(`no driver ${driver}`);
}

async function act(): Promise<void> {
  const [key = '', count = '0'] = args;
  if (action === 'put') return put(key, Number(count));
  if (action === 'increment') return increment(key, Number(count));
  if (action === 'pairs') return pairs(Number(key));
  throw new Error(`no action ${action}`);
}

/** Puts `KEY/0`, `KEY/1`, ... one transaction each. */
async function put(key: string, count: number): Promise<void> {
  for (let index = 0; index < count; index += 1) {
    const { revision } = await store.txn([], [{ type: 'put', key: `${key}/${index}`, value: index }]);
    acknowledge(revision);
  }
}

/** Adds 1 to the number at the key, `count` times, by compare-and-set. */
async function increment(key: string, count: number): Promise<void> {
  for (let done = 0; done < count; ) {
    const item = await store.get(key);
    const result = await store.txn(
      [{ key, modRevision: item?.modRevision ?? 0 }],
      [{ type: 'put', key, value: Number(item?.value ?? 0) + 1 }],
    );
    if (result.committed) done += 1;
  }
}

/** Puts `left/N` and `right/N` in one transaction, for N from `first` on, until it is killed. */
async function pairs(first: number): Promise<never> {
  for (let index = first; ; index += 1) {
    await store.txn(
      [],
      [
        { type: 'put', key: `left/${index}`, value: index },
        { type: 'put', key: `right/${index}`, value: index },
      ],
    );
    acknowledge(index);
  }
}

/** Written at once: what stands in the pipe was acknowledged, whatever happens to this process next. */
function acknowledge(value: number): void {
  writeSync(1, `${value}\n`);
}
