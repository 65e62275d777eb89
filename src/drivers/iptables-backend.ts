/** Finds out which of the two iptables backends this machine's rules are in; it never mixes them and writes nothing. */
import { ClawError } from '../errors.ts';
import { run } from './exec.ts';
import { OWN_CHAIN_PREFIX, saveTables, type IptablesBackend } from './iptables-save.ts';

/** What one backend holds; undefined when its programs are not installed. */
export interface BackendContents {
  readonly ownChains: number;
  readonly rules: number;
}

/**
 * The backend that holds our chains, else the one with more rules, else the one that plain `iptables` stands for here.
 * Throws ClawError `MISSING_BINARY` when neither is installed.
 */
export async function detectBackend(signal?: AbortSignal): Promise<IptablesBackend> {
  const [nft, legacy] = await Promise.all([contentsOf('nft', signal), contentsOf('legacy', signal)]);
  return chooseBackend({ nft, legacy, preferred: nft !== undefined && legacy !== undefined ? await plainBackend(signal) : 'nft' });
}

export function chooseBackend(found: {
  readonly nft: BackendContents | undefined;
  readonly legacy: BackendContents | undefined;
  readonly preferred: IptablesBackend;
}): IptablesBackend {
  const { nft, legacy, preferred } = found;
  if (nft === undefined && legacy === undefined) {
    throw new ClawError('MISSING_BINARY', 'iptables is not installed', { hint: 'Run `clawnode doctor --fix`.' });
  }
  if (nft === undefined) return 'legacy';
  if (legacy === undefined) return 'nft';
  if (nft.ownChains !== legacy.ownChains) return nft.ownChains > legacy.ownChains ? 'nft' : 'legacy';
  if (nft.rules !== legacy.rules) return nft.rules > legacy.rules ? 'nft' : 'legacy';
  return preferred;
}

async function contentsOf(backend: IptablesBackend, signal: AbortSignal | undefined): Promise<BackendContents | undefined> {
  try {
    const lines = (await saveTables(backend, signal)).split('\n');
    return { ownChains: lines.filter((line) => line.startsWith(`:${OWN_CHAIN_PREFIX}`)).length, rules: lines.filter((line) => line.startsWith('-A ')).length };
  } catch (error) {
    if (error instanceof ClawError && error.code === 'MISSING_BINARY') return undefined;
    throw error;
  }
}

async function plainBackend(signal: AbortSignal | undefined): Promise<IptablesBackend> {
  const { stdout } = await run(['iptables', '--version'], signal === undefined ? {} : { signal });
  return stdout.includes('legacy') ? 'legacy' : 'nft';
}
