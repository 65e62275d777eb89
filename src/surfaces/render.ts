/** Renders an answer as the short text that hosts show: one line for one thing, a table for several. It never changes the answer. */

/** A text of about this many characters is the most that is worth a model's attention; the rest is in the structured answer. */
const MAX_CHARACTERS = 12_000;
const MAX_ROWS = 50;
const MAX_CELL = 80;

type Entry = readonly [key: string, value: unknown];

/**
 * The answer of a command as text, e.g. `service.create default/web: port 80, protocol tcp, clusterIp 10.201.0.1, enforced`.
 * Expects strings that are plain already.
 */
export function renderAnswer(command: string, answer: Readonly<Record<string, unknown>>): string {
  const { namespace, name, enforced, reason, success, ...rest } = answer;
  const scalars: string[] = [];
  const blocks: string[] = [];
  for (const [key, value] of Object.entries(rest)) {
    if (isTable(value)) blocks.push(...table(key, value));
    else if (key === 'warnings' && isTexts(value)) blocks.push(...value.map((warning) => `WARNING: ${warning}`));
    else if (key === 'lines' && isTexts(value)) {
      scalars.push(counted(value));
      blocks.push(...lastLines(value));
    } else if (typeof value === 'string' && value.includes('\n')) blocks.push(`${key}:`, value.trimEnd());
    else if (isNested(value)) blocks.push(`${key}: ${flat(value)}`);
    else scalars.push(...pair([key, value]));
  }
  const state = enforcementText(enforced, reason);
  const facts = [...scalars, ...(state === undefined ? [] : [state])].join(', ');
  const subject = [command, ...(typeof name === 'string' ? [typeof namespace === 'string' ? `${namespace}/${name}` : name] : [])].join(' ');
  const head = facts === '' ? `${subject}: ${success === true ? 'done' : 'ok'}` : `${subject}: ${facts}`;
  return capped([head, ...blocks].join('\n'));
}

function enforcementText(enforced: unknown, reason: unknown): string | undefined {
  if (enforced === true) return 'enforced';
  if (enforced === false) return `NOT ENFORCED (${typeof reason === 'string' ? reason : 'no reason given'})`;
  return typeof reason === 'string' ? `reason: ${reason}` : undefined;
}

function pair([key, value]: Entry): string[] {
  if (value === undefined) return [];
  if (value === true) return [key];
  return [`${key} ${inline(value)}`];
}

function inline(value: unknown): string {
  if (value === null) return 'none';
  if (typeof value === 'string') return value === '' ? '""' : value;
  if (Array.isArray(value)) return value.length === 0 ? 'none' : value.map(inline).join(' ');
  if (isRecord(value)) {
    const entries = Object.entries(value);
    return entries.length === 0 ? 'none' : entries.map(([key, item]) => `${key}=${inline(item)}`).join(' ');
  }
  return typeof value === 'number' ? String(value) : value === true ? 'yes' : 'no';
}

/** Nested objects on one line: `nodeCount 1; nodes id=n1 meshIp=none`. */
function flat(value: Readonly<Record<string, unknown>>): string {
  return Object.entries(value)
    .map(([key, item]) => {
      if (isTable(item)) return `${key} ${item.map(inline).join(' | ')}`;
      return isNested(item) ? `${key} (${flat(item)})` : `${key} ${inline(item)}`;
    })
    .join('; ');
}

function table(key: string, rows: readonly Readonly<Record<string, unknown>>[]): string[] {
  const shown = rows.slice(0, MAX_ROWS);
  const columns = [...new Set(shown.flatMap((row) => Object.keys(row)))];
  const cells = shown.map((row) => columns.map((column) => (row[column] === undefined ? '-' : cut(inline(row[column])))));
  const widths = columns.map((column, index) => Math.max(column.length, ...cells.map((line) => line[index]?.length ?? 0)));
  const lines = [columns, ...cells].map((line) => `  ${line.map((cell, index) => cell.padEnd(widths[index] ?? 0)).join('  ')}`.trimEnd());
  const more = rows.length - shown.length;
  return [`${key}:`, ...lines, ...(more > 0 ? [`  and ${more} more`] : [])];
}

/** A log may be empty or say "ok" itself, so the line above it counts. */
function counted(lines: readonly string[]): string {
  return lines.length === 0 ? 'no lines' : `${lines.length} line${lines.length === 1 ? '' : 's'}`;
}

/** Of a log the end matters most, so the beginning is what goes. */
function lastLines(lines: readonly string[]): string[] {
  let budget = MAX_CHARACTERS - 500;
  const kept: string[] = [];
  for (const line of lines.toReversed()) {
    budget -= line.length + 1;
    if (budget < 0) break;
    kept.unshift(line);
  }
  const dropped = lines.length - kept.length;
  return [...(dropped > 0 ? [`(${dropped} earlier lines left out)`] : []), ...kept];
}

function cut(text: string): string {
  return text.length > MAX_CELL ? `${text.slice(0, MAX_CELL - 1)}…` : text;
}

function capped(text: string): string {
  return text.length > MAX_CHARACTERS ? `${text.slice(0, MAX_CHARACTERS)}\n… cut here: ask for less with limit, cursor or tail.` : text;
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function isTable(value: unknown): value is readonly Readonly<Record<string, unknown>>[] {
  return Array.isArray(value) && value.length > 0 && value.every(isRecord);
}

/** An object that holds more than scalars, or more of them than a line takes. */
function isNested(value: unknown): value is Readonly<Record<string, unknown>> {
  return isRecord(value) && Object.values(value).some((item) => typeof item === 'object' && item !== null);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
