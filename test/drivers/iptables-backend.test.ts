/** Which backend is chosen from what both hold. */
import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { chooseBackend } from '../../src/drivers/iptables-backend.ts';

const holds = (ownChains: number, rules: number) => ({ ownChains, rules });

test('our own chains decide, then the number of rules, then what plain iptables stands for', () => {
  assert.equal(chooseBackend({ nft: holds(0, 90), legacy: holds(2, 3), preferred: 'nft' }), 'legacy');
  assert.equal(chooseBackend({ nft: holds(2, 3), legacy: holds(0, 90), preferred: 'legacy' }), 'nft');
  assert.equal(chooseBackend({ nft: holds(0, 0), legacy: holds(0, 9), preferred: 'nft' }), 'legacy');
  assert.equal(chooseBackend({ nft: holds(0, 9), legacy: holds(0, 0), preferred: 'legacy' }), 'nft');
  for (const preferred of ['nft', 'legacy'] as const) assert.equal(chooseBackend({ nft: holds(0, 0), legacy: holds(0, 0), preferred }), preferred);
});

test('a backend that is not installed is not chosen, and without any there is an error', () => {
  assert.equal(chooseBackend({ nft: undefined, legacy: holds(0, 0), preferred: 'nft' }), 'legacy');
  assert.equal(chooseBackend({ nft: holds(0, 0), legacy: undefined, preferred: 'legacy' }), 'nft');
  assert.throws(() => chooseBackend({ nft: undefined, legacy: undefined, preferred: 'nft' }), { code: 'MISSING_BINARY' });
});
