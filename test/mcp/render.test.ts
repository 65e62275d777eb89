/** The texts of answers: readable, short, whole. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { plainLines, plainText, plainValue } from '../../src/surfaces/outside-text.ts';
import { plainAnswer } from '../../src/surfaces/plain-answer.ts';
import { renderAnswer } from '../../src/surfaces/render.ts';
import { sampleAnswers } from './sample-answers.ts';

function render(command: string): string {
  return renderAnswer(command, sampleAnswers[command] ?? assert.fail(command));
}

test('one thing is one line', () => {
  assert.equal(render('service.create'), 'service.create default/web: port 80, protocol tcp, clusterIp 10.201.0.1, enforced');
  assert.equal(render('service.delete'), 'service.delete default/web: deleted, clusterIp 10.201.0.1, enforced');
  assert.equal(
    render('ingress.create'),
    'ingress.create default/web: tls no, urls http://www.example.com:8443/, enforced',
  );
});

test('what is not enforced says so and why', () => {
  assert.match(render('workload.update'), /NOT ENFORCED \(the kernel refused it\)/);
});

test('a document keeps its lines, in the text and in the answer, and loses what is invisible', () => {
  const { manifest } = sampleAnswers['network.export'] ?? {};
  assert.equal(render('network.export'), `network.export: ok\nmanifest:\n${String(manifest).trimEnd()}`);
  const escape = String.fromCodePoint(0x1b);
  assert.deepEqual(plainAnswer('network.export', { manifest: `a: b\n  ${escape}[31mc: d\u202e\r\n` }), { manifest: 'a: b\n  c: d\n' });
  assert.deepEqual(plainAnswer('network.export', { other: 'a\nb' }), { other: 'a b' });
  assert.equal(plainLines('one\ntwo\nthree\n', 10), 'one\ntwo\n# … cut here, after 10 of 14 characters');
});

test('each warning is a line of its own', () => {
  const warned = { ...sampleAnswers['ingress.create'], warnings: ['service web does not exist yet', 'two rules are one'] };
  assert.deepEqual(renderAnswer('ingress.create', warned).split('\n').slice(1), ['WARNING: service web does not exist yet', 'WARNING: two rules are one']);
});

test('several things are a table', () => {
  assert.equal(
    render('service.list'),
    [
      'service.list: count 1',
      'services:',
      '  namespace  name  port  protocol  clusterIp   endpoints  healthy  createdAt',
      '  default    web   80    tcp       10.201.0.1  1          1        2026-01-02T03:04:05.000Z',
    ].join('\n'),
  );
});

test('above a log stands how long it is', () => {
  assert.equal(renderAnswer('workload.logs', { namespace: 'default', name: 'web', lines: ['listening', 'ok'] }), 'workload.logs default/web: 2 lines\nlistening\nok');
  assert.equal(renderAnswer('workload.logs', { namespace: 'default', name: 'web', lines: [] }), 'workload.logs default/web: no lines');
});

test('the next page is told', () => {
  assert.match(render('workload.list'), /count 2, nextCursor next/);
});

test('the status names every part', () => {
  const text = render('network.status');
  for (const part of ['mode sandbox', 'clusterIps used=1 free=99', 'name=web clusterIp=10.201.0.1 port=80', 'wireguard none', 'inSync', 'repairs=0']) {
    assert.ok(text.includes(part), `${part} is missing in:\n${text}`);
  }
});

test('long answers are cut: tables at the end, logs at the beginning', () => {
  const rows = Array.from({ length: 60 }, (_, index) => ({ name: `w${index}`, note: 'x'.repeat(200) }));
  const table = renderAnswer('workload.list', { count: 60, workloads: rows });
  assert.match(table, /and 10 more/);
  assert.match(table, /x{79}…/);
  const lines = Array.from({ length: 1_000 }, (_, index) => `line ${index} ${'y'.repeat(40)}`);
  const log = renderAnswer('workload.logs', { namespace: 'default', name: 'web', lines });
  assert.match(log, /^workload\.logs default\/web: 1000 lines\n\(\d+ earlier lines left out\)\nline /);
  assert.match(log, /line 999 y+$/);
  assert.ok(log.length < 13_000);
  const wide = renderAnswer('x', { text: 'z'.repeat(50_000) });
  assert.ok(wide.length < 13_000);
  assert.match(wide, /cut here/);
});

test('plain text holds no control, format or escape character, is bounded, and leaves plain words alone', () => {
  const unit = fc.constantFrom('\u001B[31m', '\u001B', '\u009B', '\u202E', '\u2066', '\u200B', '\u{E0041}', '\0', '\n', '\u2028', 'a', ' ', 'ü', '字', '\uD800');
  fc.assert(
    fc.property(fc.oneof(fc.string({ unit, maxLength: 200 }), fc.string({ unit: 'binary', maxLength: 200 })), (text) => {
      const plain = plainText(text, 50);
      assert.ok(plain.length <= 50);
      assert.doesNotMatch(plain, /[\p{Cc}\p{Cf}\u2028\u2029]/u);
    }),
  );
  fc.assert(fc.property(fc.stringMatching(/^[ -~]{0,50}$/), (text) => assert.equal(plainText(text, 50), text)));
});

test('plain values keep their form', () => {
  assert.deepEqual(plainValue({ a: [1, null, true, { 'k\u202E': 'v\0' }] }, 10), { a: [1, null, true, { k: 'v' }] });
});
