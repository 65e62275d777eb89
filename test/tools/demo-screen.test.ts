/** What the demo shows: bars, wrapped calls, failures, and colour only where it is wanted. */
import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { WriteStream } from 'node:tty';
import { test } from 'node:test';
import { DemoFailure, expect } from '../../src/surfaces/cli/demo-failure.ts';
import { createScreen, type Output } from '../../src/surfaces/cli/demo-screen.ts';

class Recorder extends Writable {
  text = '';
  readonly isTTY: boolean;
  readonly columns = 80;
  constructor({ isTTY }: { isTTY: boolean }) {
    super({ decodeStrings: false });
    this.isTTY = isTTY;
  }
  // How many colours a terminal has is what Node asks before it uses any.
  getColorDepth(env?: object): number {
    return WriteStream.prototype.getColorDepth(env);
  }
  override _write(chunk: string, _encoding: string, done: () => void): void {
    this.text += chunk;
    done();
  }
}

function shown(draw: (screen: ReturnType<typeof createScreen>) => void, options = { isTTY: false }): string {
  const stream: Output & { text: string } = new Recorder(options);
  draw(createScreen(stream));
  return stream.text;
}

test('bars show shares of all and their sum', () => {
  const text = shown((screen) => screen.bars({ 'web-2': 1, 'web-1': 3 }));
  const [first = '', second = ''] = text.split('\n');
  assert.match(first, /^ {6}web-1 {2}█{27}·{9} {3}3 {3}75 %$/);
  assert.match(second, /^ {6}web-2 {2}█{9}·{27} {3}1 {3}25 %$/);
});

test('no line of a call is wider than the terminal, and nothing of it is lost', () => {
  const args = { name: 'web', rules: Array.from({ length: 9 }, (_, index) => ({ host: `h${index}.example.com`, service: 'web' })) };
  const text = shown((screen) => screen.call('ingress_create', args, ['enforced true', 'x '.repeat(100)]));
  for (const line of text.split('\n')) assert.ok(line.length <= 80, line);
  assert.ok(text.replaceAll(/\s+/g, '').includes(JSON.stringify(args)));
});

test('a failing step says what was expected and what was seen', () => {
  assert.throws(
    () => expect(false, 'no balance', { expected: 'thirds', seen: { a: 1 } }),
    (error) => error instanceof DemoFailure && error.message === 'no balance' && error.expected === 'thirds' && error.seen === '{"a":1}',
  );
  expect(true, 'never thrown', { expected: '', seen: '' });
  assert.equal(shown((screen) => screen.failed('no balance', ['expected: thirds'])), '    ✘ no balance\n      expected: thirds\n');
});

test('steps are numbered', () => {
  assert.equal(shown((screen) => ['one', 'two'].forEach((step) => screen.step(step))), '\n 1  one\n\n 2  two\n');
});

test('colour is for terminals, and not where NO_COLOR is set', (t) => {
  const before = { NO_COLOR: process.env['NO_COLOR'], FORCE_COLOR: process.env['FORCE_COLOR'], TERM: process.env['TERM'], CI: process.env['CI'] };
  t.after(() => {
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  });
  delete process.env['NO_COLOR'];
  delete process.env['FORCE_COLOR'];
  // Node takes most CI systems for terminals without colours.
  delete process.env['CI'];
  process.env['TERM'] = 'xterm-256color';
  const draw = (screen: ReturnType<typeof createScreen>): void => screen.seen('fine');
  assert.ok(shown(draw, { isTTY: true }).includes('\u001B['));
  assert.ok(!shown(draw, { isTTY: false }).includes('\u001B['));
  process.env['NO_COLOR'] = '1';
  assert.ok(!shown(draw, { isTTY: true }).includes('\u001B['));
});
