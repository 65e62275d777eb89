/** Which backend is chosen from what both hold. */
import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { decideBackend, type BackendContents, type BackendEvidence } from '../../src/drivers/iptables-backend.ts';
import { ClawError } from '../../src/errors.ts';

const holds = (ownChains: number, foreignRules: number): BackendContents => ({ ownChains, foreignRules });
const missing: BackendContents = { obstacle: new ClawError('MISSING_BINARY', 'it is not installed'), absent: true };
const decide = (nft: BackendContents, legacy: BackendContents, rest: Partial<BackendEvidence> = {}) => decideBackend({ nft, legacy, configured: 'auto', plain: 'nft', ...rest });

test('our own chains decide, then the number of rules, then what plain iptables stands for', () => {
  assert.equal(decide(holds(0, 90), holds(2, 3)).backend, 'legacy');
  assert.equal(decide(holds(2, 3), holds(0, 90), { plain: 'legacy' }).backend, 'nft');
  assert.equal(decide(holds(0, 0), holds(0, 9)).backend, 'legacy');
  assert.equal(decide(holds(0, 9), holds(0, 0), { plain: 'legacy' }).backend, 'nft');
  for (const plain of ['nft', 'legacy'] as const) assert.equal(decide(holds(0, 0), holds(0, 0), { plain }).backend, plain);
});

test('the configuration decides, but never against the backend that holds our chains', () => {
  for (const configured of ['nft', 'legacy'] as const) {
    assert.equal(decide(holds(0, 9), holds(0, 0), { configured }).backend, configured);
    assert.equal(decide(holds(0, 0), holds(0, 9), { configured }).backend, configured);
  }
  assert.equal(decide(holds(4, 0), holds(0, 9), { configured: 'nft' }).backend, 'nft');
  assert.throws(() => decide(holds(4, 0), holds(0, 9), { configured: 'legacy' }), { code: 'CONFIG_INVALID', path: 'iptablesBackend', hint: /clawnode cleanup/ });
  assert.throws(() => decide(holds(0, 9), holds(4, 0), { configured: 'nft' }), { code: 'CONFIG_INVALID' });
});

test('where ours are in both, one of them has to go', () => {
  assert.deepEqual(decide(holds(9, 0), holds(2, 0)), { backend: 'nft', reason: 'it holds most of our chains', mixed: false, leftIn: 'legacy' });
  assert.deepEqual(decide(holds(2, 7), holds(9, 1)), { backend: 'legacy', reason: 'it holds most of our chains', mixed: true, leftIn: 'nft' });
  assert.equal(decide(holds(9, 0), holds(2, 0), { configured: 'legacy' }).leftIn, 'nft');
  assert.equal(decide(holds(9, 0), holds(0, 2)).leftIn, undefined);
});

test('rules of others in both are told', () => {
  assert.equal(decide(holds(0, 1), holds(0, 9)).mixed, true);
  assert.equal(decide(holds(5, 1), holds(0, 9)).mixed, true);
  assert.equal(decide(holds(5, 0), holds(0, 9)).mixed, false);
});

test('a backend that can not be used is not chosen, and without any there is an error', () => {
  assert.deepEqual(decide(missing, holds(0, 0)), { backend: 'legacy', reason: 'nft can not be used: it is not installed', mixed: false });
  assert.equal(decide(holds(0, 0), missing, { plain: 'legacy' }).backend, 'nft');
  assert.throws(() => decide(missing, missing), { code: 'MISSING_BINARY' });
  assert.throws(() => decide(holds(0, 0), missing, { configured: 'legacy' }), { code: 'MISSING_BINARY' });
  assert.throws(() => decide(missing, holds(0, 0), { configured: 'nft' }), { code: 'MISSING_BINARY' });
});
