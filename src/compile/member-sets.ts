/**
 * The sets of addresses that policy rules refer to. A set is named by what it holds, so a change of members is another set: one
 * commit of rules switches them all, and no mixture of old and new members is ever in force. Pure; it keeps who is in which set
 * from one compile to the next.
 */
import { createHash } from 'node:crypto';
import type { PolicyWorkload } from '../policy/parties.ts';
import type { IpsetState } from './kernel-state.ts';

export type SetType = 'hash:ip' | 'hash:ip,port' | 'hash:net';

export interface SetQuestion {
  /** The same key means the same question: who it asks for, in which form. */
  readonly key: string;
  readonly type: SetType;
  /** The entries that a workload is in the set by; none when it is not meant. */
  readonly membersOf: (workload: PolicyWorkload) => readonly string[];
  /** Entries that no workload stands for. */
  readonly fixed?: readonly string[];
}

export interface MemberSet {
  readonly key: string;
  /** As of the last change; undefined while nobody is in it: a rule that names it would match nothing. */
  current(): IpsetState | undefined;
}

export interface WorkloadChange {
  /** Record key. */
  readonly key: string;
  /** Undefined: it is gone. */
  readonly workload: PolicyWorkload | undefined;
}

export interface MemberSets {
  /** The set that answers the question; asked again, the same. */
  ask(question: SetQuestion): MemberSet;
  /** These workloads differ from what they were when the sets were made or last changed. */
  change(changes: readonly WorkloadChange[]): void;
  /** Forgets the sets whose keys are not among these. */
  keepOnly(keys: ReadonlySet<string>): void;
}

/** `all` gives every workload by record key, as of the moment it is called. */
export function memberSets(all: () => Iterable<readonly [string, PolicyWorkload]>): MemberSets {
  const sets = new Map<string, LiveSet>();
  return {
    ask: (question) => {
      const known = sets.get(question.key);
      if (known !== undefined) return known;
      const made = liveSet(question, all());
      sets.set(question.key, made);
      return made;
    },
    change: (changes) => {
      for (const set of sets.values()) set.change(changes);
    },
    keepOnly: (keys) => {
      for (const key of sets.keys()) if (!keys.has(key)) sets.delete(key);
    },
  };
}

interface LiveSet extends MemberSet {
  change(changes: readonly WorkloadChange[]): void;
}

function liveSet({ key, type, membersOf, fixed = [] }: SetQuestion, workloads: Iterable<readonly [string, PolicyWorkload]>): LiveSet {
  const byWorkload = new Map<string, readonly string[]>();
  for (const [name, workload] of workloads) {
    const members = membersOf(workload);
    if (members.length > 0) byWorkload.set(name, members);
  }
  let state: { readonly ipset: IpsetState | undefined } | undefined;
  return {
    key,
    current: () => {
      state ??= { ipset: ipsetOf(type, new Set([...fixed, ...[...byWorkload.values()].flat()])) };
      return state.ipset;
    },
    change: (changes) => {
      for (const { key: name, workload } of changes) {
        const before = byWorkload.get(name) ?? NOBODY;
        const members = workload === undefined ? NOBODY : membersOf(workload);
        if (before.length === members.length && before.every((member, index) => member === members[index])) continue;
        if (members.length === 0) byWorkload.delete(name);
        else byWorkload.set(name, members);
        state = undefined;
      }
    },
  };
}

const NOBODY: readonly string[] = [];

/** The most workloads that there are at once, ports of each included, and as many ranges as the holes of one block leave. */
const MOST_MEMBERS = 1_048_576;

function ipsetOf(type: SetType, members: ReadonlySet<string>): IpsetState | undefined {
  if (members.size === 0) return undefined;
  const hash = createHash('sha256').update(type);
  for (const member of [...members].toSorted()) hash.update(`\n${member}`);
  // Set names hold 31 bytes.
  return { name: `CLAW-N-${hash.digest('hex').slice(0, 20).toUpperCase()}`, create: `${type} family inet hashsize 1024 maxelem ${MOST_MEMBERS}`, members };
}
