/** Finds out which of the two iptables backends this machine's rules are in; it never mixes them and writes nothing. */
import { readFile } from 'node:fs/promises';
import { ClawError } from '../errors.ts';
import { run } from './exec.ts';
import { listChain, OWN_CHAIN_PREFIX, saveTables, type IptablesBackend } from './iptables-save.ts';

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
  // Where an agent of ours has been, one chain tells, whatever the number of rules.
  const [inNft, inLegacy] = await Promise.all([holdsOurs('nft', signal), holdsOurs('legacy', signal)]);
  if (inNft !== inLegacy) return inNft ? 'nft' : 'legacy';
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

async function holdsOurs(backend: IptablesBackend, signal: AbortSignal | undefined): Promise<boolean> {
  // Listing a chain would make the kernel load the legacy table of a machine that uses none.
  if (backend === 'legacy' && !(await mayHoldLegacyFilter())) return false;
  return (await unlessMissing(listChain(backend, { table: 'filter', chain: OUR_FIRST_CHAIN }, signal))) !== undefined;
}

const OUR_FIRST_CHAIN = `${OWN_CHAIN_PREFIX}NETPOL`;

async function mayHoldLegacyFilter(): Promise<boolean> {
  try {
    return (await readFile('/proc/net/ip_tables_names', 'utf8')).split('\n').includes('filter');
  } catch (error) {
    // Only the machine's root may read it; without the kernel module there is no such file.
    return error instanceof Error && 'code' in error && error.code !== 'ENOENT';
  }
}

async function contentsOf(backend: IptablesBackend, signal: AbortSignal | undefined): Promise<BackendContents | undefined> {
  const lines = (await unlessMissing(saveTables(backend, signal)))?.split('\n');
  if (lines === undefined) return undefined;
  return { ownChains: lines.filter((line) => line.startsWith(`:${OWN_CHAIN_PREFIX}`)).length, rules: lines.filter((line) => line.startsWith('-A ')).length };
}

/** Undefined when the program is not installed. */
async function unlessMissing<Result>(result: Promise<Result>): Promise<Result | undefined> {
  try {
    return await result;
  } catch (error) {
    if (error instanceof ClawError && error.code === 'MISSING_BINARY') return undefined;
    throw error;
  }
}

async function plainBackend(signal: AbortSignal | undefined): Promise<IptablesBackend> {
  const { stdout } = await run(['iptables', '--version'], signal === undefined ? {} : { signal });
  return stdout.includes('legacy') ? 'legacy' : 'nft';
}
