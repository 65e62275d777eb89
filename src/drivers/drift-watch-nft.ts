/** Listens to changes of the nf_tables ruleset with one long-lived `nft monitor` and says which of them concern us; it never reads the ruleset. */
import { TABLES, type Table } from '../compile/kernel-state.ts';
import { watchLines, type LineWatch } from './drift-watch-lines.ts';
import { OWN_CHAIN_PREFIX } from './iptables-save.ts';

/** One transaction of somebody, ourselves included. */
export interface RulesetChange {
  /** As the kernel's first pid namespace counts: inside of another one no pid that is known there. */
  readonly pid: number;
  /** At most 15 bytes. */
  readonly program: string;
  /** It changed a chain of ours, or deleted a whole table. */
  readonly ours: boolean;
  /** Tables in which it changed chains that our jumps are in. */
  readonly besideJumps: readonly Table[];
  /** The name of the chain with which a process of ours made itself known. */
  readonly mark: string | undefined;
}

export interface RulesetWatchOptions {
  /** Only changes that concern us. */
  readonly onChange: (change: RulesetChange) => void;
  /** `nft` was started, the first time or again. It takes a while until it listens: see `mark`. */
  readonly onStart: () => void;
  /** The kernel had more to tell than it could take. */
  readonly onOverflow: () => void;
  /** `nft` has ended, or could not be started; it is started again later. */
  readonly onEnd: (reason: string) => void;
}

/** Chains of this prefix exist only inside of one transaction. */
export const MARK_PREFIX = `${OWN_CHAIN_PREFIX}MARK-`;

export function watchRuleset({ onChange, onStart, onOverflow, onEnd }: RulesetWatchOptions): LineWatch {
  // Names of services and users are of no interest, and looking them up costs time.
  return watchLines({ argv: ['nft', '-nn', 'monitor'], onLines: rulesetParser(onChange, onOverflow), onStart, onEnd });
}

/** Takes lines of `nft monitor` in any pieces; a change is complete with the line of its generation. */
export function rulesetParser(onChange: (change: RulesetChange) => void, onOverflow: () => void): (lines: readonly string[]) => void {
  let ours = false;
  let mark: string | undefined;
  const beside = new Set<Table>();
  return (lines) => {
    for (const line of lines) {
      if (line.startsWith('#')) {
        const [, pid, program] = GENERATION.exec(line) ?? [];
        if (pid !== undefined && program !== undefined) {
          if (ours || beside.size > 0 || mark !== undefined) onChange({ pid: Number(pid), program, ours, besideJumps: [...beside], mark });
          ours = false;
          mark = undefined;
          beside.clear();
        } else if (line.startsWith('# ERROR')) onOverflow();
        continue;
      }
      const [, verb, kind, table, chain = ''] = EVENT.exec(line) ?? [];
      if (table === undefined || !isTable(table)) continue;
      if (chain.startsWith(MARK_PREFIX)) mark = chain;
      else if (chain.startsWith(OWN_CHAIN_PREFIX) || (kind === 'table' && verb === 'delete')) ours = true;
      else if (kind === 'rule' && CHAINS_WITH_JUMPS.has(chain)) beside.add(table);
    }
  };
}

// `# new generation 9 by process 5952 (iptables-nft)`
const GENERATION = /^# new generation \d+ by process (\d+) \((.*)\)/;
// `insert rule ip filter FORWARD handle 6 iifname "docker0" ...`; only IPv4 tables of iptables are ours.
const EVENT = /^(\w+) (table|chain|rule) ip (\S+)(?: (\S+))?/;
const CHAINS_WITH_JUMPS = new Set(['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING', 'DOCKER-USER']);

function isTable(name: string): name is Table {
  return TABLES.some((table) => table === name);
}
