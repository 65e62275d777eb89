/** What the demo shows: numbered steps, tool calls, ticks and bars, in colour on a terminal that wants it. It observes nothing. */
import { styleText } from 'node:util';

type Style = Parameters<typeof styleText>[0];

const BAR_WIDTH = 36;

export interface Screen {
  title(text: string): void;
  step(text: string): void;
  /** A tool call and what its answer said, a line each. */
  call(name: string, args: object, answer: readonly string[]): void;
  /** Something that was observed, with the time since the screen was made. */
  seen(text: string): void;
  /** One bar per name, as a share of all. */
  bars(counts: Readonly<Record<string, number>>): void;
  failed(what: string, details: readonly string[]): void;
  done(text: string): void;
}

/** A stream to draw on, e.g. `process.stdout`. */
export type Output = NodeJS.WritableStream & Partial<Pick<NodeJS.WriteStream, 'isTTY' | 'columns'>>;

/** A screen on this stream: no colour where the stream is no terminal or NO_COLOR is set. */
export function createScreen(stream: Output): Screen {
  const beganAt = performance.now();
  const width = Math.min(Math.max(stream.columns ?? 100, 80), 100);
  let step = 0;
  const style = (format: Style, text: string): string => styleText(format, text, { stream });
  const line = (text = ''): void => void stream.write(`${text}\n`);
  const tick = style('green', '✔');

  return {
    title: (text) => line(`\n${style('bold', text)}`),
    step: (text) => {
      step += 1;
      line(`\n${style('cyan', String(step).padStart(2))}  ${style('bold', text)}`);
    },
    call: (name, args, answer) => {
      const call = Object.keys(args).length === 0 ? name : `${name} ${JSON.stringify(args)}`;
      const [head = '', ...more] = wrapped(call, width - 8);
      line(`    ${style('magenta', '→')} ${head}`);
      for (const text of more) line(`        ${text}`);
      const lines = answer.flatMap((text) => wrapped(text, width - 8));
      for (const [index, text] of lines.entries()) line(`    ${style('dim', `${index === 0 ? '←' : ' '} ${text}`)}`);
    },
    seen: (text) => {
      const at = `${((performance.now() - beganAt) / 1_000).toFixed(2)} s`;
      line(`    ${tick} ${text.padEnd(width - 7 - at.length)} ${style('dim', at)}`);
    },
    bars: (counts) => {
      const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
      const longest = Math.max(...Object.keys(counts).map((name) => name.length));
      for (const [name, count] of Object.entries(counts).toSorted(([a], [b]) => a.localeCompare(b))) {
        const share = total === 0 ? 0 : count / total;
        line(`      ${name.padEnd(longest)}  ${style('blue', bar(share))} ${String(count).padStart(3)}  ${(share * 100).toFixed(0).padStart(3)} %`);
      }
    },
    failed: (what, details) => {
      line(`    ${style('red', '✘')} ${style('bold', what)}`);
      for (const detail of details) line(`      ${detail}`);
    },
    done: (text) => line(`\n${tick} ${style('bold', text)}\n`),
  };
}

/** Eighths of a block make small differences visible; the rest of the track is dotted. */
function bar(share: number): string {
  const eighths = Math.round(share * BAR_WIDTH * 8);
  const blocks = '█'.repeat(Math.floor(eighths / 8)) + (['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'][eighths % 8] ?? '');
  return blocks.padEnd(BAR_WIDTH, '·');
}

/** Lines of at most `width` characters, broken behind a comma or a blank. */
function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  let current = '';
  for (const part of text.split(/(?<=[, ])/)) {
    if (current !== '' && current.length + part.trimEnd().length > width) {
      lines.push(current.trimEnd());
      current = '';
    }
    current += part;
  }
  return [...lines, current.trimEnd()];
}
