/** Reads the configuration of a host, and finds our server in it: what it starts, never with which secrets. It changes nothing. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import json5 from 'json5';

export type HostFile =
  | { readonly kind: 'absent' }
  /** `reason` names line and column where they are known. */
  | { readonly kind: 'broken'; readonly reason: string }
  | { readonly kind: 'read'; readonly value: unknown };

const MOST_BYTES = 64 * 1024 * 1024;

export async function readHostFile(path: string, format: 'json' | 'json5'): Promise<HostFile> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    // Of what lies where this user may not even look, nothing is known.
    if (code === 'ENOENT' || code === 'ENOTDIR' || !existsSync(path)) return { kind: 'absent' };
    return { kind: 'broken', reason: code === 'EACCES' ? 'this user may not read it' : `it can not be read (${String(code)})` };
  }
  if (text.length > MOST_BYTES) return { kind: 'broken', reason: 'it is too large' };
  try {
    return { kind: 'read', value: format === 'json' ? JSON.parse(text) : json5.parse(text) };
  } catch (error) {
    return { kind: 'broken', reason: `it is not ${format === 'json' ? 'JSON' : 'JSON with comments'}${placeOf(error, text)}` };
  }
}

/** Only the place is told: what stands there may be a secret. */
function placeOf(error: unknown, text: string): string {
  if (!(error instanceof Error)) return '';
  const line = numberAt(error, 'lineNumber');
  const column = numberAt(error, 'columnNumber');
  if (line !== undefined && column !== undefined) return `: line ${line}, column ${column}`;
  const place = /\(line (\d+) column (\d+)\)/.exec(error.message);
  if (place !== null) return `: line ${place[1]}, column ${place[2]}`;
  if (!/end of JSON input|Unterminated/.test(error.message)) return '';
  return `: it ends too early, in line ${text.trimEnd().split('\n').length}`;
}

function numberAt(error: Error, key: string): number | undefined {
  const value: unknown = Reflect.get(error, key);
  return typeof value === 'number' ? value : undefined;
}

/** What a host starts or connects to as a server. */
export interface HostServer {
  readonly name: string;
  readonly command: string | undefined;
  readonly args: readonly string[];
  readonly url: string | undefined;
}

/** Those of the servers that are ours, by name or by what they start. */
export function ownServers(value: unknown, places: readonly (readonly string[])[], ownName: string): HostServer[] {
  return places
    .flatMap((keys) => valuesAt(value, keys))
    .flatMap((servers) => Object.entries(objectOf(servers)))
    .map(([name, entry]) => serverOf(name, entry))
    .filter(({ name, command, args }) => name === ownName || [command ?? '', ...args].some((word) => /(^|[/\\])clawnode(\.js|\.cmd)?$|^clawbernetes-networking(@|$)/.test(word)));
}

/** Everything at a path of keys, where `*` stands for each key. */
function valuesAt(value: unknown, [key, ...rest]: readonly string[]): unknown[] {
  if (key === undefined) return [value];
  const entries = Object.entries(objectOf(value));
  return entries.filter(([name]) => key === '*' || name === key).flatMap(([, inner]) => valuesAt(inner, rest));
}

export function objectOf(value: unknown): object {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : {};
}

function serverOf(name: string, entry: unknown): HostServer {
  const fields = new Map<string, unknown>(Object.entries(objectOf(entry)));
  const command = fields.get('command');
  const args = fields.get('args');
  const url = fields.get('url') ?? fields.get('serverUrl');
  return {
    name,
    command: typeof command === 'string' ? command : undefined,
    args: Array.isArray(args) ? args.filter((arg) => typeof arg === 'string') : [],
    url: typeof url === 'string' ? url : undefined,
  };
}
