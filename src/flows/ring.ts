/** The newest flows in memory, counted and asked for; pure, and nothing of it is stored. */
import type { FlowLogStatus, FlowQuery, ToldFlow } from '../model/flow.ts';

/** A flow that has just happened; `count` comes with the ring. */
export interface NewFlow extends Omit<ToldFlow, 'time' | 'count'> {
  readonly timeMs: number;
}

export interface FlowRing {
  /** What differs from a flow of the last second in its source port only is counted with it. */
  add(flow: NewFlow): void;
  /** Newest first; `count` is how many match, before the limit. */
  query(query: FlowQuery): { readonly flows: readonly ToldFlow[]; readonly count: number };
  /** Since the beginning, also of what has been forgotten. */
  totals(): Pick<FlowLogStatus, 'denied' | 'audited'>;
}

interface Entry {
  readonly key: string;
  readonly flow: NewFlow;
  count: number;
  lastMs: number;
}

const CAPACITY = 10_000;
const MERGE_MS = 1000;

export function createFlowRing({ capacity = CAPACITY }: { capacity?: number } = {}): FlowRing {
  /** A circle: `next` is where the oldest is overwritten. */
  const entries: Entry[] = [];
  let next = 0;
  const latest = new Map<string, Entry>();
  const totals = { denied: 0, audited: 0 };

  const newestFirst = function* (): Generator<Entry> {
    for (let back = 1; back <= entries.length; back += 1) {
      const entry = entries[(next - back + entries.length) % entries.length];
      if (entry !== undefined) yield entry;
    }
  };

  return {
    add: (flow) => {
      totals[flow.verdict === 'deny' ? 'denied' : 'audited'] += 1;
      const key = keyOf(flow);
      const known = latest.get(key);
      if (known !== undefined && Math.abs(flow.timeMs - known.flow.timeMs) < MERGE_MS) {
        known.count += 1;
        known.lastMs = Math.max(known.lastMs, flow.timeMs);
        return;
      }
      const entry = { key, flow, count: 1, lastMs: flow.timeMs };
      const oldest = entries[next];
      if (oldest !== undefined && latest.get(oldest.key) === oldest) latest.delete(oldest.key);
      entries[next] = entry;
      latest.set(key, entry);
      next = (next + 1) % capacity;
    },
    query: (query) => {
      const flows: ToldFlow[] = [];
      let count = 0;
      for (const entry of newestFirst()) {
        if (!matches(entry, query)) continue;
        count += 1;
        if (flows.length < query.limit) flows.push(told(entry));
      }
      return { flows, count };
    },
    totals: () => ({ ...totals }),
  };
}

function keyOf({ fromIp, from, toIp, to, port, protocol, verdict, direction, policy }: NewFlow): string {
  return [fromIp, from, toIp, to, port, protocol, verdict, direction, policy].join(' ');
}

function matches({ flow: { from, fromIp, to, toIp, verdict }, lastMs }: Entry, query: FlowQuery): boolean {
  if (query.sinceMs !== undefined && lastMs < query.sinceMs) return false;
  if (query.verdict !== undefined && verdict !== query.verdict) return false;
  if (query.workload !== undefined && ![from, fromIp, to, toIp].some((end) => end === query.workload)) return false;
  return query.namespace === undefined || [from, to].some((end) => end.startsWith(`${query.namespace ?? ''}/`));
}

function told({ flow: { timeMs, ...flow }, count }: Entry): ToldFlow {
  return { time: new Date(timeMs).toISOString(), ...flow, count };
}
