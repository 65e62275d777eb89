/** An iptables kernel in memory for unit tests: executes real restore input, refuses what it does not know, and fails on demand. */
import type { Table } from '../../src/compile/kernel-state.ts';
import type { ChainNames } from '../../src/drivers/iptables-save.ts';
import type { IptablesKernel } from '../../src/drivers/iptables.ts';

const BUILTIN: Readonly<Record<string, readonly string[]>> = {
  raw: ['PREROUTING', 'OUTPUT'],
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
  nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
  mangle: ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
};
const TARGETS = new Set(['ACCEPT', 'DROP', 'RETURN', 'REJECT', 'DNAT', 'MASQUERADE', 'MARK', 'LOG']);

type Chains = Map<string, string[]>;

export type Failure = 'exit before commit' | 'exit after first table' | 'no proof';

export class FakeIptables implements IptablesKernel {
  /** What the next commit does wrong. */
  failNext: Failure | undefined;
  /** Called when the restore process ends, as the driver wishes. */
  onExit: () => void = () => undefined;
  /** Called after each transaction, with the table. */
  onTransaction: (table: string) => void = () => undefined;
  saves = 0;
  smallTableRules = Infinity;
  readonly payloads: string[] = [];
  readonly tables = new Map<string, Chains>(Object.entries(BUILTIN).map(([table, chains]) => [table, new Map(chains.map((chain) => [chain, []]))]));

  /** As root on this machine would: runs one iptables-restore of its own. */
  restore(payload: string): void {
    for (const { table, lines } of sections(payload)) this.tables.set(table, this.#execute(table, lines));
  }

  rules(table: string, chain: string): readonly string[] {
    return this.tables.get(table)?.get(chain) ?? [];
  }

  async save(): Promise<string> {
    this.saves += 1;
    return this.text();
  }

  async saveTable(table: Table): Promise<string> {
    return this.text([table]);
  }

  async listChains({ table, chains }: ChainNames): Promise<ReadonlyMap<string, readonly string[]>> {
    return new Map([...(this.tables.get(table) ?? [])].filter(([name]) => chains.includes(name)));
  }

  text(only: readonly string[] = [...this.tables.keys()]): string {
    return [...this.tables]
      .filter(([table]) => only.includes(table))
      .map(([table, chains]) => {
        const declarations = [...chains.keys()].map((name) => `:${name} ${BUILTIN[table]?.includes(name) === true ? 'ACCEPT' : '-'} [0:0]`);
        const rules = [...chains].flatMap(([name, held]) => held.map((rule) => `-A ${name} ${rule}`.trimEnd()));
        return [`*${table}`, ...declarations, ...rules, 'COMMIT', ''].join('\n');
      })
      .join('');
  }

  async commit(payload: string): Promise<void> {
    const failure = this.failNext;
    this.failNext = undefined;
    this.payloads.push(payload);
    if (failure === 'exit before commit') this.#end(failure);
    for (const { table, lines } of sections(payload)) {
      try {
        this.tables.set(table, this.#execute(table, lines));
      } catch (error) {
        this.onExit();
        throw error;
      }
      this.onTransaction(table);
      if (failure === 'exit after first table') this.#end(failure);
    }
    if (failure === 'no proof') this.#end(failure);
  }

  async close(): Promise<void> {
    this.onExit();
  }

  #end(reason: Failure): never {
    this.onExit();
    throw new Error(reason);
  }

  /** One transaction: on a copy, so that a refused line leaves the table as it was. */
  #execute(table: string, lines: readonly string[]): Chains {
    const held = this.tables.get(table);
    if (held === undefined) throw new Error(`no table ${table}`);
    const chains: Chains = new Map([...held].map(([name, rules]) => [name, [...rules]]));
    for (const line of lines) executeLine(chains, line, BUILTIN[table] ?? []);
    return chains;
  }
}

function sections(payload: string): { table: string; lines: string[] }[] {
  const found: { table: string; lines: string[] }[] = [];
  let open: { table: string; lines: string[] } | undefined;
  for (const line of payload.split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    if (line.startsWith('*') && open === undefined) open = { table: line.slice(1), lines: [] };
    else if (line === 'COMMIT' && open !== undefined) {
      found.push(open);
      open = undefined;
    } else if (open === undefined) throw new Error(`outside a table: ${line}`);
    else open.lines.push(line);
  }
  if (open !== undefined) throw new Error('COMMIT expected');
  return found;
}

function executeLine(chains: Chains, line: string, builtin: readonly string[]): void {
  const declaration = /^:(\S+) - \[0:0\]$/.exec(line)?.[1];
  if (declaration !== undefined) {
    if (builtin.includes(declaration)) throw new Error(`policy of a builtin chain: ${line}`);
    if (declaration.length > 28) throw new Error(`name too long: ${line}`);
    chains.set(declaration, []);
    return;
  }
  const [, verb, chain = '', rest = ''] = /^-([AIDX]) (\S+) ?(.*)$/.exec(line) ?? [];
  const rules = chains.get(chain);
  if (verb === undefined || rules === undefined) throw new Error(`no such chain or command: ${line}`);
  if (verb === 'A') rules.push(checkedRule(chains, rest));
  else if (verb === 'I') insert(rules, chains, rest);
  else if (verb === 'D') remove(rules, rest);
  else {
    if (builtin.includes(chain) || rules.length > 0 || isReferred(chains, chain)) throw new Error(`chain is in use: ${line}`);
    chains.delete(chain);
  }
}

function insert(rules: string[], chains: Chains, rest: string): void {
  const [, position = '', rule = ''] = /^(\d+) ?(.*)$/.exec(rest) ?? [];
  if (Number(position) < 1 || Number(position) > rules.length + 1) throw new Error(`bad position: ${rest}`);
  rules.splice(Number(position) - 1, 0, checkedRule(chains, rule));
}

function remove(rules: string[], rule: string): void {
  const at = /^\d+$/.test(rule) ? Number(rule) - 1 : rules.indexOf(rule);
  if (at < 0 || at >= rules.length) throw new Error(`no such rule: ${rule}`);
  rules.splice(at, 1);
}

function checkedRule(chains: Chains, rule: string): string {
  const target = targetOf(rule);
  if (target !== undefined && !TARGETS.has(target) && !chains.has(target)) throw new Error(`no such target: ${rule}`);
  return rule;
}

function isReferred(chains: Chains, name: string): boolean {
  return [...chains.values()].some((rules) => rules.some((rule) => targetOf(rule) === name));
}

function targetOf(rule: string): string | undefined {
  return /(?:^| )-[jg] (\S+)/.exec(rule.replaceAll(/"(?:[^"\\]|\\.)*"/g, '""'))?.[1];
}
