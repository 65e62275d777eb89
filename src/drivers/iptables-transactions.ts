/** Puts the difference of a table into restore lines, in an order in which each transaction leaves the table sound; pure but for the budget. */
import { readFileSync } from 'node:fs';
import type { ChainRules, TableDifference } from './iptables-diff.ts';

/**
 * The lines between `*table` and `COMMIT`, transaction by transaction; none when nothing differs. It is one transaction
 * unless that would be larger than `budget` bytes of netlink messages.
 */
export function transactionsOf(difference: TableDifference, budget: number): string[][] {
  const whole = oneTransaction(difference);
  if (whole.length === 0) return [];
  return budget === Infinity || weightOf(whole) <= budget ? [whole] : severalTransactions(difference, budget);
}

/**
 * How many bytes one transaction of iptables-nft may have. Its netlink socket gets a send buffer of any size where we hold
 * CAP_NET_ADMIN over the machine; in a user namespace it keeps the default size and `sendmsg` refuses more than that.
 */
export function netlinkBudget(): number {
  const [inside, outside, count] = readFileSync('/proc/self/uid_map', 'utf8').trim().split(/\s+/);
  return inside === '0' && outside === '0' && count === '4294967295' ? Infinity : USER_NAMESPACE_BUDGET;
}

// The default send buffer has 212,992 bytes; the weights below are estimates from above.
const USER_NAMESPACE_BUDGET = 200_000;

function oneTransaction({ created, rewritten, jumps, stale }: TableDifference): string[] {
  const changed = [...created, ...rewritten];
  return [
    // Declaring a chain makes it, or empties it. All come first: a rule may name only chains that exist, and a stale chain
    // can be deleted only after the rules that refer to it, those of other stale chains among them, are gone.
    ...changed.map(({ name }) => declared(name)),
    ...stale.map(declared),
    ...changed.flatMap(appended),
    ...jumps,
    ...stale.map(deleted),
  ];
}

/** New chains are complete before anything in force refers to them, and stale ones go when nothing does any more. */
function severalTransactions({ created, rewritten, jumps, stale }: TableDifference, budget: number): string[][] {
  return [
    ...packed(singly(created.map(({ name }) => declared(name))), budget),
    ...packed(singly(created.flatMap(appended)), budget),
    // A chain in force is emptied and filled in one transaction; only one that is larger than the budget alone cannot be.
    ...packed([...rewritten.map((chain) => [declared(chain.name), ...appended(chain)]), [...jumps]], budget),
    ...packed(singly(stale.map(declared)), budget),
    ...packed(singly(stale.map(deleted)), budget),
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
