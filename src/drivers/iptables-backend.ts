/** Decides which of the two iptables backends holds, and shall hold, the rules of this machine; it never mixes them and writes nothing. */
import { readFile } from 'node:fs/promises';
import type { Table } from '../compile/kernel-state.ts';
import { ClawError, toClawError } from '../errors.ts';
import { ProcessError, run } from './exec.ts';
import { OWN_CHAIN_PREFIX, saveTables, targetsOwnChain, type IptablesBackend } from './iptables-save.ts';

export const BACKENDS = ['nft', 'legacy'] as const;

/** What one backend holds, or why it can not be used. */
export type BackendContents =
  | { readonly ownChains: number; readonly foreignRules: number; readonly obstacle?: undefined }
  | {
      readonly obstacle: ClawError;
      /** Its program or its part of the kernel is missing, so it holds nothing. */
      readonly absent: boolean;
    };

export interface BackendChoice {
  readonly backend: IptablesBackend;
  /** Why, for the log. */
  readonly reason: string;
  /** The other one holds chains of ours too. They have to go: nobody would keep them up to date. */
  readonly leftIn?: IptablesBackend;
  /** Others have rules in both: each packet meets both. */
  readonly mixed: boolean;
}

export interface BackendWish {
  readonly configured: IptablesBackend | 'auto';
  /** A sandbox holds no rules of others: nft, unless that can not be used. */
  readonly sandbox: boolean;
}

/**
 * The backend that holds our chains, until a cleanup; else the one that is configured; else the one with more rules; else the
 * one that plain `iptables` stands for here. Throws ClawError `CONFIG_INVALID` when another one is configured than that which
 * holds our chains, or the obstacle when none can be used.
 */
export async function chooseBackend(wish: BackendWish, signal?: AbortSignal): Promise<BackendChoice> {
  // Where an agent of ours has been, one chain tells, whatever the number of rules.
  const [inNft, inLegacy] = await Promise.all(BACKENDS.map((backend) => holdsOurs(backend, signal)));
  if (inNft !== inLegacy) return stay(inNft === true ? 'nft' : 'legacy', wish);
  const nft = await inspectBackend('nft', signal);
  // Looking into the legacy tables makes the kernel set them up, in a sandbox for nothing.
  if (wish.sandbox && wish.configured !== 'legacy' && inLegacy !== true && nft.obstacle === undefined) return { backend: 'nft', reason: 'a sandbox uses nft', mixed: false };
  const legacy = await inspectBackend('legacy', signal);
  return decideBackend({ ...wish, nft, legacy, plain: wish.sandbox ? 'nft' : await plainBackend(signal) });
}

export interface BackendEvidence extends Pick<BackendWish, 'configured'> {
  readonly nft: BackendContents;
  readonly legacy: BackendContents;
  /** What `iptables` stands for. */
  readonly plain: IptablesBackend;
}

export function decideBackend(evidence: BackendEvidence): BackendChoice {
  const { nft, legacy, configured, plain } = evidence;
  if (configured !== 'auto' && evidence[configured].obstacle !== undefined) throw evidence[configured].obstacle;
  if (nft.obstacle !== undefined && legacy.obstacle !== undefined) throw nft.obstacle;
  if (nft.obstacle !== undefined) return { backend: 'legacy', reason: `nft can not be used: ${nft.obstacle.message}`, mixed: false };
  if (legacy.obstacle !== undefined) return { backend: 'nft', reason: `legacy can not be used: ${legacy.obstacle.message}`, mixed: false };
  const mixed = nft.foreignRules > 0 && legacy.foreignRules > 0;
  const choose = (backend: IptablesBackend, reason: string): BackendChoice => {
    const leftIn = other(backend);
    return { backend, reason, mixed, ...(evidence[leftIn].obstacle === undefined && evidence[leftIn].ownChains > 0 ? { leftIn } : {}) };
  };
  if (nft.ownChains > 0 !== legacy.ownChains > 0) return { ...stay(nft.ownChains > 0 ? 'nft' : 'legacy', evidence), mixed };
  if (configured !== 'auto') return choose(configured, CONFIGURED);
  if (nft.ownChains !== legacy.ownChains) return choose(nft.ownChains > legacy.ownChains ? 'nft' : 'legacy', 'it holds most of our chains');
  const fuller = nft.foreignRules > legacy.foreignRules ? 'nft' : 'legacy';
  if (nft.foreignRules !== legacy.foreignRules) return choose(fuller, `it holds the rules of this machine (nft ${nft.foreignRules}, legacy ${legacy.foreignRules})`);
  return choose(plain, 'plain iptables is that one here');
}

/** What the backend holds. Sets no legacy table up on the machine itself, but does in somebody's user namespace. */
export async function inspectBackend(backend: IptablesBackend, signal?: AbortSignal): Promise<BackendContents> {
  let text: string;
  try {
    text = await saveTables(backend, signal);
  } catch (error) {
    signal?.throwIfAborted();
    const obstacle = toClawError(error);
    return { obstacle, absent: obstacle.code === 'MISSING_BINARY' || (error instanceof ProcessError && KERNEL_LACKS.test(error.stderr)) };
  }
  const incompatible = /^# Table `(raw|filter|nat)' is incompatible/m.exec(text)?.[1];
  if (incompatible !== undefined) {
    return {
      absent: false,
      obstacle: new ClawError('NOT_SUPPORTED', `the iptables table ${incompatible} holds rules that only nft can show`, {
        hint: `Look at \`nft list table ip ${incompatible}\` and move those rules into a table of another name.`,
      }),
    };
  }
  const lines = text.split('\n');
  const isForeign = (line: string): boolean => line.startsWith('-A ') && !line.startsWith(`-A ${OWN_CHAIN_PREFIX}`) && !targetsOwnChain(line);
  return { ownChains: lines.filter((line) => line.startsWith(`:${OWN_CHAIN_PREFIX}`)).length, foreignRules: lines.filter(isForeign).length };
}

/** What iptables-legacy and iptables-nft say on a kernel that was built without them. */
const KERNEL_LACKS = /Table does not exist|Failed to initialize nft|Protocol not supported/;

const CONFIGURED = 'the configuration says so';

function stay(backend: IptablesBackend, { configured }: Pick<BackendWish, 'configured'>): BackendChoice {
  if (configured === 'auto') return { backend, reason: 'it holds chains of ours', mixed: false };
  if (configured === backend) return { backend, reason: CONFIGURED, mixed: false };
  throw new ClawError('CONFIG_INVALID', `iptablesBackend can not change to ${configured} while iptables-${backend} holds chains of ours`, {
    path: 'iptablesBackend',
    hint: 'Run `clawnode cleanup` first; the next start programs all services and workloads again.',
  });
}

function other(backend: IptablesBackend): IptablesBackend {
  return backend === 'nft' ? 'legacy' : 'nft';
}

/** One chain of each table that is there whenever an agent has programmed it. */
const MARKS: readonly (readonly [table: Table, chain: string])[] = [
  ['filter', `${OWN_CHAIN_PREFIX}NETPOL`],
  ['nat', `${OWN_CHAIN_PREFIX}SERVICES`],
  ['raw', `${OWN_CHAIN_PREFIX}SPOOF`],
];

async function holdsOurs(backend: IptablesBackend, signal: AbortSignal | undefined): Promise<boolean> {
  // Listing a chain would make the kernel load the legacy table of a machine that uses none.
  const tables = backend === 'nft' ? undefined : await legacyTables();
  for (const [table, chain] of MARKS) {
    if (tables?.includes(table) !== false && (await holdsChain({ backend, table, chain }, signal))) return true;
  }
  return false;
}

async function holdsChain({ backend, table, chain }: { backend: IptablesBackend; table: Table; chain: string }, signal: AbortSignal | undefined): Promise<boolean> {
  try {
    // 1: no such chain. 3 and 4: the kernel has no such table, which is looked into later.
    const { exitCode } = await run([`iptables-${backend}`, '--wait', '-t', table, '-S', chain], { okExitCodes: [0, 1, 3, 4], ...(signal === undefined ? {} : { signal }) });
    return exitCode === 0;
  } catch (error) {
    if (error instanceof ClawError && error.code === 'MISSING_BINARY') return false;
    throw error;
  }
}

/** Those that the kernel holds in this network namespace. */
async function legacyTables(): Promise<readonly string[]> {
  try {
    return (await readFile('/proc/net/ip_tables_names', 'utf8')).split('\n');
  } catch (error) {
    // Only the machine's root may read it. Who is in this table is enough: looking sets a table up, and nat's takes part in each packet.
    if (error instanceof Error && 'code' in error && error.code === 'EACCES') return ['filter'];
    // Without the kernel module there is no such file.
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  }
}

async function plainBackend(signal: AbortSignal | undefined): Promise<IptablesBackend> {
  const { stdout } = await run(['iptables', '--version'], signal === undefined ? {} : { signal });
  return stdout.includes('legacy') ? 'legacy' : 'nft';
}
