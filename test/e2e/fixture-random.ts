/** Random choices that can be made again from the same seed. */

export interface Random {
  /** 0 to `limit` - 1. */
  below(limit: number): number;
  /** One of them, or undefined when there is none. */
  pick<T>(items: readonly T[]): T | undefined;
}

/** Mulberry32: 32 bits of state are plenty to spread kills over time. */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (limit: number): number => Math.floor(next() * limit);
  return { below, pick: (items) => items[below(items.length)] };
}
