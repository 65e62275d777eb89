/** Runs `iptables-save` and reads from it the chains of ours and our jumps in foreign chains; it never keeps foreign rules. */
import { ClawError } from '../errors.ts';
import type { Jump, Rules, Table } from '../compile/kernel-state.ts';
import { ProcessError, run, type Argv } from './exec.ts';

export type IptablesBackend = 'nft' | 'legacy';

export const OWN_CHAIN_PREFIX = 'CLAW-';

/** A rule of ours found in a chain that is not ours; `index` counts from 0 in that chain. */
export interface PlacedJump {
  readonly chain: string;
  readonly rule: string;
  readonly index: number;
}

/** What is ours in one table. */
export interface ProgrammedTable {
  readonly chains: ReadonlyMap<string, Rules>;
  readonly jumps: readonly PlacedJump[];
  /** Names of the chains that are not ours, as of the last reading. */
  readonly foreignChains?: ReadonlySet<string>;
}

/** Whether the table can hold the jump: a chain that is optional has to be there. */
export function hasPlaceFor({ chain, optional }: Jump, { foreignChains }: ProgrammedTable): boolean {
  return optional !== true || foreignChains?.has(chain) === true;
}

/** All tables as text. Throws ClawError `PROCESS_FAILED` or `MISSING_BINARY`. */
export async function saveTables(backend: IptablesBackend, signal?: AbortSignal): Promise<string> {
  const save = async (...args: readonly string[]): Promise<string> =>
    (await run([`iptables-${backend}-save`, ...args], { timeoutMs: SAVE_TIMEOUT_MS, ...(signal === undefined ? {} : { signal }) })).stdout;
  try {
    return await save();
  } catch (error) {
    // The list of the legacy tables belongs to the machine's root, also in the user namespace of somebody else.
    if (!(error instanceof ProcessError) || !error.stderr.includes('ip_tables_names')) throw error;
    const tables = await Promise.all(['raw', 'mangle', 'filter', 'nat'].map((table) => save('-t', table)));
    return tables.join('');
  }
}

/** One table as text, with all of its rules. Empty when the kernel does not hold it. */
export async function saveTable(backend: IptablesBackend, table: Table, signal?: AbortSignal): Promise<string> {
  return (await run([`iptables-${backend}-save`, '-t', table], { timeoutMs: SAVE_TIMEOUT_MS, ...(signal === undefined ? {} : { signal }) })).stdout;
}

/** The rules of one chain in order, each without its `-A CHAIN`; undefined when there is no such chain. */
export async function listChain(backend: IptablesBackend, { table, chain }: ChainName, signal?: AbortSignal): Promise<Rules | undefined> {
  const argv: Argv = [`iptables-${backend}`, '--wait', '-t', table, '-S', chain];
  const { exitCode, stdout } = await run(argv, { okExitCodes: [0, 1], ...(signal === undefined ? {} : { signal }) });
  return exitCode === 0 ? rulesIn(stdout, chain) : undefined;
}

/**
 * The same for some chains of one table; those that do not exist are left out. With nf_tables only these chains are read, in
 * 2 ms each whatever else there is. iptables-legacy reads the whole table to show a chain, so one process shows all of them.
 */
export async function listChains(backend: IptablesBackend, { table, chains }: ChainNames, signal?: AbortSignal): Promise<ReadonlyMap<string, Rules>> {
  if (backend === 'legacy') {
    // `--test` changes nothing. The lock is held for as long as the table is read.
    const input = [`*${table}`, ...chains.map((chain) => `-S ${chain}`), 'COMMIT', ''].join('\n');
    const options = { input, okExitCodes: [0, 1, 2, 3, 4], timeoutMs: SAVE_TIMEOUT_MS, ...(signal === undefined ? {} : { signal }) };
    const { exitCode, stdout } = await run(['iptables-legacy-restore', '--noflush', '--test', '--wait'], options);
    if (exitCode === 0) return new Map(chains.map((chain) => [chain, rulesIn(stdout, chain)]));
    // It stops at the first chain that does not exist: then each is asked for by itself.
  }
  const found = new Map<string, Rules>();
  for (const chain of chains) {
    const rules = await listChain(backend, { table, chain }, signal);
    if (rules !== undefined) found.set(chain, rules);
  }
  return found;
}

function rulesIn(text: string, chain: string): Rules {
  const start = `-A ${chain}`;
  return text
    .split('\n')
    .filter((line) => line === start || line.startsWith(`${start} `))
    .map((line) => line.slice(start.length + 1));
}

export interface ChainName {
  readonly table: Table;
  readonly chain: string;
}

export interface ChainNames {
  readonly table: Table;
  readonly chains: readonly string[];
}

// Reading 35,000 rules takes about two seconds on two quiet cores.
const SAVE_TIMEOUT_MS = 120_000;

/** What is ours, by table. Throws ClawError `NOT_SUPPORTED` for a table that iptables cannot show. */
export function parseIptablesSave(text: string): ReadonlyMap<string, ProgrammedTable> {
  const tables = new Map<string, TableUnderWay>();
  let table = newTable();
  for (const line of text.split('\n')) {
    if (line.startsWith('-A ')) readRule(table, line);
    else if (line.startsWith(`:${OWN_CHAIN_PREFIX}`)) table.chains.set(line.slice(1, line.indexOf(' ')), []);
    else if (line.startsWith(':')) table.foreignChains.add(line.slice(1, line.indexOf(' ')));
    else if (line.startsWith('*')) tables.set(line.slice(1), (table = newTable()));
    else refuseIncompatible(line);
  }
  return tables;
}

/** Whether the rule (without `-A CHAIN`) jumps or goes to a chain of ours. Text in quotes, such as a comment, does not count. */
export function targetsOwnChain(rule: string): boolean {
  const target = TARGET.exec(rule.includes('"') ? rule.replace(QUOTED, '""') : rule)?.[1];
  return target?.startsWith(OWN_CHAIN_PREFIX) === true;
}

const QUOTED = /"(?:[^"\\]|\\.)*"/g;
const TARGET = /(?:^| )-[jg] (\S+)/;

interface TableUnderWay {
  readonly chains: Map<string, string[]>;
  readonly jumps: PlacedJump[];
  readonly foreignChains: Set<string>;
  /** How many rules of each foreign chain were read. */
  readonly foreign: Map<string, number>;
}

function newTable(): TableUnderWay {
  return { chains: new Map(), jumps: [], foreignChains: new Set(), foreign: new Map() };
}

function readRule(table: TableUnderWay, line: string): void {
  const end = line.indexOf(' ', 3);
  // A rule without any match or target is only `-A CHAIN`.
  const chain = end < 0 ? line.slice(3) : line.slice(3, end);
  const rule = end < 0 ? '' : line.slice(end + 1);
  const own = table.chains.get(chain);
  if (own !== undefined) {
    own.push(rule);
    return;
  }
  const index = table.foreign.get(chain) ?? 0;
  table.foreign.set(chain, index + 1);
  if (targetsOwnChain(rule)) table.jumps.push({ chain, rule, index });
}

/** iptables-nft leaves out a table that holds rules made by nft itself, and says so in a comment. */
function refuseIncompatible(line: string): void {
  const table = /^# Table `(\w+)' is incompatible/.exec(line)?.[1];
  if (table === undefined || !['raw', 'filter', 'nat'].includes(table)) return;
  throw new ClawError('NOT_SUPPORTED', `the iptables table ${table} holds rules that only nft can show`, {
    hint: `Look at \`nft list table ip ${table}\` and move those rules into a table of another name.`,
  });
}
