/** Makes the kernel's ipsets of ours (`CLAW-`) match the desired ones; it never touches a set of another name. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { IpsetState } from '../compile/kernel-state.ts';
import { ProcessError, run } from './exec.ts';

export interface IpsetDriver {
  /**
   * Creates missing sets, adds missing members and deletes surplus ones, but for sets whose members have a timeout, in one `ipset restore`; `written` counts its lines.
   * It destroys nothing: rules may still refer to sets that are no longer wanted. Throws ClawError `PROCESS_FAILED`; the next
   * call then reads the kernel again.
   */
  apply(desired: readonly IpsetState[], signal?: AbortSignal): Promise<{ readonly written: number }>;
  /** Destroys sets of ours that are not desired. The kernel refuses it while a rule refers to one, and for a moment after the rule has gone. */
  prune(desired: readonly IpsetState[], signal?: AbortSignal): Promise<{ readonly written: number }>;
  /** Says in words which sets of ours others destroyed or emptied, without writing; nothing while the next call would read the kernel anyway. */
  check(signal?: AbortSignal): Promise<readonly string[]>;
  /** Forgets what is known to be programmed, so that the next call reads the kernel. */
  resync(): void;
  /** Destroys every set of ours, once no rule refers to them; what the kernel does not let go of at once is waited for. */
  removeAll(signal?: AbortSignal): Promise<{ readonly written: number }>;
}

const OWN_SET_PREFIX = 'CLAW-';
/** The last of the waits, each twice the one before, for the kernel to let go of sets: seconds only where it is very busy. */
const LONGEST_RELEASE_MS = 640;

type Programmed = ReadonlyMap<string, IpsetState>;

export interface IpsetOptions {
  /** Told what others had changed, once it is repaired. */
  readonly onRepaired?: (words: readonly string[]) => void;
}

export function openIpset({ onRepaired }: IpsetOptions = {}): IpsetDriver {
  let programmed: Programmed | undefined;
  // What the last change left, kept over a resync: against it is told what others changed.
  let believed: Programmed = new Map();
  let resyncs = 0;
  let queue: Promise<unknown> = Promise.resolve();

  /** One change at a time; what it leads to is known only once `ipset restore` has succeeded. */
  function change(next: (held: Programmed) => { lines: string[]; after: Programmed }, signal?: AbortSignal): Promise<{ written: number }> {
    const work = async (): Promise<{ written: number }> => {
      const resyncsBefore = resyncs;
      const options = { timeoutMs: 60_000, ...(signal === undefined ? {} : { signal }) };
      const held = programmed ?? parseIpsetSave((await run(['ipset', 'save'], options)).stdout);
      const { lines, after } = next(held);
      const drift = programmed === undefined ? describeDrift(believed, after, held) : [];
      programmed = undefined;
      if (lines.length > 0) await run(['ipset', 'restore'], { ...options, input: `${lines.join('\n')}\n` });
      if (resyncs === resyncsBefore) programmed = after;
      believed = after;
      if (drift.length > 0) onRepaired?.(drift);
      return { written: lines.length };
    };
    return inTurn(work);
  }

  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = queue.then(work, work);
    queue = result.catch(() => undefined);
    return result;
  }

  function prune(desired: readonly IpsetState[], signal?: AbortSignal): Promise<{ written: number }> {
    const wanted = new Set(desired.map(({ name }) => name));
    return change((held) => {
      const stale = [...held.keys()].filter((name) => !wanted.has(name));
      return { lines: stale.map((name) => `destroy ${name}`), after: new Map([...held].filter(([name]) => wanted.has(name))) };
    }, signal);
  }

  return {
    apply: (desired, signal) =>
      change((held) => ({ lines: desired.flatMap((set) => diffSet(held.get(set.name), set)), after: new Map([...held, ...byName(desired)]) }), signal),
    prune,
    check: (signal) =>
      inTurn(async () => {
        if (programmed === undefined || programmed.size === 0) return [];
        const options = signal === undefined ? {} : { signal };
        const few = [...programmed.values()].reduce((sum, { members }) => sum + members.size, 0) <= FEW_MEMBERS;
        if (few) return describeDrift(programmed, programmed, parseIpsetSave((await run(['ipset', 'save'], options)).stdout));
        return describeDrift(programmed, programmed, parseTerse((await run(['ipset', 'list', '-terse'], options)).stdout));
      }),
    resync() {
      programmed = undefined;
      resyncs += 1;
    },
    async removeAll(signal) {
      this.resync();
      // nf_tables takes rules out at once, but what they held it lets go of in its own time, after the commit was answered.
      for (let waitMs = 5; waitMs <= LONGEST_RELEASE_MS; waitMs *= 2) {
        try {
          return await prune([], signal);
        } catch (error) {
          if (!(error instanceof ProcessError) || !error.stderr.includes('in use by a kernel component')) throw error;
          await sleep(waitMs, undefined, signal === undefined ? {} : { signal });
        }
      }
      return await prune([], signal);
    },
  };
}

/** The sets of ours in the output of `ipset save`. */
export function parseIpsetSave(text: string): Programmed {
  const sets = new Map<string, { name: string; create: string; members: Set<string> }>();
  for (const line of text.split('\n')) {
    const [verb, name = '', ...rest] = line.split(' ');
    if (!name.startsWith(OWN_SET_PREFIX)) continue;
    if (verb === 'create') sets.set(name, { name, create: rest.join(' '), members: new Set() });
    else sets.get(name)?.members.add(rest.join(' '));
  }
  return sets;
}

/** Above it only the sizes of sets are looked at every few seconds: a member that was changed for another is then found late. */
const FEW_MEMBERS = 1_000;

/** What was read of each set: its members, or how many they are. */
type Held = ReadonlyMap<string, { readonly members: ReadonlySet<string> | { readonly size: number } }>;

/** The sets in the output of `ipset list -terse`. */
function parseTerse(text: string): Held {
  const sets = text.split('\n\n').map((header) => ({ name: /^Name: (\S+)/m.exec(header)?.[1] ?? '', size: Number(/^Number of entries: (\d+)/m.exec(header)?.[1]) }));
  return new Map(sets.map(({ name, size }) => [name, { members: { size } }]));
}

/** Where we want something else than was there, a difference may be of our own making and is not told. */
function describeDrift(believed: Programmed, desired: Programmed, held: Held): string[] {
  return [...desired.values()].flatMap(({ name, create, members }) => {
    const wanted = believed.get(name)?.members;
    const found = held.get(name)?.members;
    if (wanted === undefined) return [];
    if (found === undefined) return [`set ${name} was missing`];
    if (wanted.size !== members.size || keepsItsOwnMembers(create)) return [];
    const { size } = found;
    if (size === members.size) return 'has' in found && holdsAll(wanted, members) && !holdsAll(found, members) ? [`set ${name} held other members`] : [];
    return [size === 0 ? `set ${name} was empty` : `set ${name} held ${size} members instead of ${members.size}`];
  });
}

function holdsAll(held: ReadonlySet<string>, members: ReadonlySet<string>): boolean {
  return held === members || [...members].every((member) => held.has(member));
}

function diffSet(held: IpsetState | undefined, desired: IpsetState): string[] {
  if (held === desired) return [];
  const { name, create, members } = desired;
  // A name stands for one type for ever: whoever wants another one gives the set another name.
  const creation = held === undefined ? [`create ${name} ${create}`] : [];
  const added = [...members].filter((member) => held?.members.has(member) !== true);
  const surplus = held === undefined || held.members === members || keepsItsOwnMembers(create) ? [] : [...held.members].filter((member) => !members.has(member));
  return [...creation, ...added.map((member) => `add ${name} ${member}`), ...surplus.map((member) => `del ${name} ${member}`)];
}

/** Members with a timeout come and go by the kernel's hand: packets add them, time takes them away. */
function keepsItsOwnMembers(create: string): boolean {
  return / timeout \d/.test(create);
}

function byName(sets: readonly IpsetState[]): [string, IpsetState][] {
  return sets.map((set) => [set.name, set]);
}
