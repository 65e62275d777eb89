/** Makes text that came from outside (labels, log lines, messages) safe to show to a model or a terminal; it never judges what the text says. */

// Built from code points, since the source itself holds no control characters.
const ESC = String.fromCodePoint(0x1b);
const CSI = String.fromCodePoint(0x9b);
const BEL = String.fromCodePoint(0x07);
const SEQUENCES = [
  `(?:${ESC}\\[|${CSI})[0-?]*[ -/]*[@-~]`, // colours, cursor
  `${ESC}[\\]PX^_][^${BEL}${ESC}]*(?:${BEL}|${ESC}\\\\)?`, // titles, links and other strings, up to their end
  `${ESC}[ -/]*[0-~]?`, // all others
];
const ANSI = new RegExp(SEQUENCES.join('|'), 'g');

// Controls (Cc), lone surrogates (Cs) and format characters (Cf): among these the bidirectional overrides, zero-width
// characters and the tag block, which hide text from a person but not from a model.
const INVISIBLE = /[\p{Cc}\p{Cs}\p{Cf}\u2028\u2029]/gu;
const BLANKS = /[\t\n\r\u2028\u2029]+/g;

/** One line without terminal sequences, control, bidirectional or invisible characters, of at most `maxLength` UTF-16 units. */
export function plainText(text: string, maxLength: number): string {
  // Cut before the regular expressions see it, so that a huge text costs no more than a long one; sequences vanish, hence the slack.
  const plain = text.slice(0, maxLength * 4).replace(ANSI, '').replace(BLANKS, ' ').replace(INVISIBLE, '');
  return plain.length > maxLength || text.length > maxLength * 4 ? `${plain.slice(0, maxLength - 1)}…` : plain;
}

/** The same of each line by itself; lines beyond `maxLength` UTF-16 units in all are left out, as the last one then says. */
export function plainLines(text: string, maxLength: number): string {
  const lines = text.slice(0, maxLength).split('\n').map((line) => line.replace(ANSI, '').replace(INVISIBLE, ''));
  return text.length > maxLength ? [...lines.slice(0, -1), `# … cut here, after ${maxLength} of ${text.length} characters`].join('\n') : lines.join('\n');
}

/** The same JSON value with each of its strings, keys included, made plain. */
export function plainValue(value: unknown, maxLength: number): unknown {
  if (typeof value === 'string') return plainText(value, maxLength);
  if (Array.isArray(value)) return value.map((item: unknown) => plainValue(item, maxLength));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [plainText(key, maxLength), plainValue(item, maxLength)]));
}
