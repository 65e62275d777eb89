/** What the demo shows: numbered steps, tool calls, ticks and bars, in colour on a terminal that wants it. It observes nothing. */
import { stripVTControlCharacters, styleText } from 'node:util';

type Style = Parameters<typeof styleText>[0];

const WIDTH = 96;
const BAR_WIDTH = 36;

export interface Screen {
  title(text: string): void;
  /** Begins a step; its time is shown when it is done. */
  step(text: string): void;
  /** A tool call and its text answer. */
  call(name: string, args: object, answer: string): void;
  /** Something that was observed. */
  seen(text: string): void;
  note(text: string): void;
  /** One bar per name, as a share of all. */
  bars(counts: Readonly<Record<string, number>>): void;
  failed(what: string, details: readonly string[]): void;
  done(text: string): void;
}

/** A screen on this stream: no colour where the stream is no terminal or NO_COLOR is set. */
export function createScreen(stream: NodeJS.WriteStream): Screen {
  let step = 0;
  let beganAt = performance.now();
  const style = (format: Style, text: string): string => styleText(format, text, { stream });
  const line = (text = ''): void => void stream.write(`${text}\n`);
  const tick = style('green', '✔');

  return {
    title: (text) => line(`\n${style('bold', text)}`),
    step: (text) => {
      beganAt = performance.now();
      step += 1;
      line(`\n${style('cyan', String(step).padStart(2))}  ${style('bold', text)}`);
    },
    call: (name, args, answer) => {
      const call = Object.keys(args).length === 0 ? name : `${name} ${JSON.stringify(args)}`;
      line(`    ${style('magenta', '→')} ${shortened(call)}`);
      const [head = '', ...rest] = answer.split('\n');
      for (const text of [`← ${head.slice(head.indexOf(' ') + 1)}`, ...rest.map((row) => `  ${row}`)]) line(`    ${style('dim', shortened(text))}`);
    },
    seen: (text) => {
      const took = `${Math.round(performance.now() - beganAt)} ms`;
      line(`    ${tick} ${padded(text, WIDTH - 6 - took.length)} ${style('dim', took)}`);
      beganAt = performance.now();
    },
    note: (text) => line(`    ${style('dim', text)}`),
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

function shortened(text: string): string {
  return text.length > WIDTH - 6 ? `${text.slice(0, WIDTH - 7)}…` : text;
}

function padded(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - stripVTControlCharacters(text).length));
}
