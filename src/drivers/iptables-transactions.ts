/** Puts the difference of a table into restore lines, in an order in which each transaction leaves the table sound; pure but for the question of what is allowed here. */
import { readFileSync } from 'node:fs';
import type { ChainRules, TableDifference } from './iptables-diff.ts';
import type { IptablesBackend } from './iptables-save.ts';

/** In bytes of netlink messages; `Infinity` where nothing is sent through netlink. */
export interface TransactionSizes {
  /** What may be split without being seen is split above this. */
  readonly preferredBytes: number;
  /** What belongs together is split only above this. */
  readonly maximumBytes: number;
}

/** The lines between `*table` and `COMMIT`, transaction by transaction; none when nothing differs, one when it is not large. */
export function transactionsOf(difference: TableDifference, sizes: TransactionSizes): string[][] {
  const whole = oneTransaction(difference);
  if (whole.length === 0) return [];
  return sizes.preferredBytes === Infinity || weightOf(whole) <= sizes.preferredBytes ? [whole] : severalTransactions(difference, sizes);
}

/**
 * The sizes for a backend. The netlink socket of iptables-nft gets a send buffer of any size where we hold CAP_NET_ADMIN
 * over the machine; in a user namespace it keeps the default size, and `sendmsg` refuses more than that.
 */
export function transactionSizes(backend: IptablesBackend): TransactionSizes {
  // iptables-legacy hands over the whole table in every commit.
  if (backend === 'legacy') return { preferredBytes: Infinity, maximumBytes: Infinity };
  const [inside, outside, count] = readFileSync('/proc/self/uid_map', 'utf8').trim().split(/\s+/);
  const initialUserNamespace = inside === '0' && outside === '0' && count === '4294967295';
  return { preferredBytes: PREFERRED_BYTES, maximumBytes: initialUserNamespace ? Infinity : PREFERRED_BYTES };
}

// The default send buffer has 212,992 bytes. Several transactions of this size also take half the time of a single large one.
const PREFERRED_BYTES = 200_000;

function oneTransaction({ created, rewritten, edited, jumps, stale }: TableDifference): string[] {
  const changed = [...created, ...rewritten];
  return [
    // Declaring a chain makes it, or empties it. All come first: a rule may name only chains that exist, and a stale chain
    // can be deleted only after the rules that refer to it, those of other stale chains among them, are gone.
    ...changed.map(({ name }) => declared(name)),
    ...stale.map(declared),
    ...changed.flatMap(appended),
    ...edited,
    ...jumps,
    ...stale.map(deleted),
  ];
}

/** New chains are complete before anything in force refers to them, and stale ones go when nothing does any more. */
function severalTransactions({ created, rewritten, edited, jumps, stale }: TableDifference, sizes: TransactionSizes): string[][] {
  return [
    ...packed(singly(created.map(({ name }) => declared(name))), sizes.preferredBytes),
    ...packed(singly(created.flatMap(appended)), sizes.preferredBytes),
    // What is in force changes at once; where that cannot be, at least each chain is emptied and filled in one transaction,
    // unless it is larger than the maximum by itself.
    ...packed([...rewritten.map((chain) => [declared(chain.name), ...appended(chain)]), [...edited], [...jumps]], sizes.maximumBytes),
    ...packed(singly(stale.map(declared)), sizes.preferredBytes),
    ...packed(singly(stale.map(deleted)), sizes.preferredBytes),
  ];
}

function singly(lines: readonly string[]): string[][] {
  return lines.map((line) => [line]);
}

/** Fills transactions with groups of lines that belong together; a group is split only when it is too large by itself. */
function packed(groups: readonly (readonly string[])[], budget: number): string[][] {
  const transactions: string[][] = [];
  let current: string[] = [];
  let left = budget;
  const close = (): void => {
    if (current.length > 0) transactions.push(current);
    current = [];
    left = budget;
  };
  for (const group of groups) {
    if (weightOf(group) > left) close();
    for (const line of group) {
      const weight = weightOf([line]);
      if (weight > left) close();
      current.push(line);
      left -= weight;
    }
  }
  close();
  return transactions;
}

/** Bytes of netlink messages, estimated from above: a comment is a struct of 256 bytes, every option an expression or two. */
function weightOf(lines: readonly string[]): number {
  return lines.reduce((sum, line) => sum + 256 + 64 * (line.split(' -').length - 1) + (line.includes('--comment ') ? 256 : 0), 0);
}

function declared(name: string): string {
  return `:${name} - [0:0]`;
}

function deleted(name: string): string {
  return `-X ${name}`;
}

function appended({ name, rules }: ChainRules): string[] {
  return rules.map((rule) => (rule === '' ? `-A ${name}` : `-A ${name} ${rule}`));
}
