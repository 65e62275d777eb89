/** What a measurement is worth: medians, quantiles, and a figure beside its target. It measures nothing itself. */
import { z } from 'zod';

/** A ratio or an absolute value with the most or the least that it may be; neither when it is told for information only. */
export const figure = z.object({
  what: z.string(),
  /** The values that it was made from, e.g. `410 ms against 2,900 ms`. */
  measured: z.string(),
  value: z.number(),
  unit: z.string().default(''),
  atMost: z.number().optional(),
  atLeast: z.number().optional(),
});
export type Figure = z.input<typeof figure>;

export interface Bench {
  readonly title: string;
  /** Called in network, mount and pid namespaces of its own, with an empty /run. */
  run(): Promise<Figure[]>;
}

/** How often each side is measured, in turn. */
export const ROUNDS = 5;

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** The smallest value that so large a part of all does not exceed. */
export function quantile(values: readonly number[], part: number): number {
  const ascending = values.toSorted((a, b) => a - b);
  const value = ascending[Math.max(0, Math.ceil(part * ascending.length) - 1)];
  if (value === undefined) throw new Error('no value was measured');
  return value;
}

/** The rounds of one bench, each of which gives every side's value under the same name. */
export async function inRounds<Side extends string>(round: (number: number) => Promise<Readonly<Record<Side, number>>>): Promise<(side: Side) => number[]> {
  const rounds: Readonly<Record<Side, number>>[] = [];
  for (let number = 1; number <= ROUNDS; number += 1) {
    const values = await round(number);
    process.stderr.write(`  round ${number} of ${ROUNDS}: ${JSON.stringify(values, (_, value: unknown) => (typeof value === 'number' ? Number(value.toPrecision(4)) : value))}\n`);
    rounds.push(values);
  }
  return (side) => rounds.map((values) => values[side]);
}

export function passed({ value, atMost = Infinity, atLeast = -Infinity }: Figure): boolean {
  return value <= atMost && value >= atLeast;
}

export function targetOf({ atMost, atLeast, unit = '' }: Figure): string {
  if (atMost !== undefined) return `at most ${atMost}${unit}`;
  return atLeast === undefined ? '' : `at least ${atLeast}${unit}`;
}

/** A Markdown table that also reads well as it is. */
export function table(figures: readonly Figure[]): string {
  const rows = figures.map((one) => {
    const target = targetOf(one);
    return [one.what, one.measured, `${short(one.value)}${one.unit ?? ''}`, target, target === '' ? '' : passed(one) ? 'ok' : 'MISSED'];
  });
  const all = [['what', 'measured', 'value', 'target', ''], ...rows];
  const widths = [0, 1, 2, 3, 4].map((column) => Math.max(3, ...all.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]): string => `| ${widths.map((width, column) => (cells[column] ?? '').padEnd(width)).join(' | ')} |`;
  return [line(all[0] ?? []), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...rows.map(line)].join('\n');
}

export function short(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
