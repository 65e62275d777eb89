/** Compares a text with the golden file of its name. `UPDATE_GOLDEN=1` writes the file instead: then read the difference before committing it. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

export async function assertGolden(name: string, text: string): Promise<void> {
  const file = join(import.meta.dirname, 'golden', `${name}.txt`);
  if (process.env['UPDATE_GOLDEN'] === '1') await writeFile(file, text);
  assert.equal(text, await readFile(file, 'utf8'), `differs from ${file}`);
}
