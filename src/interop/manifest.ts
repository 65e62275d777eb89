/** Reads a manifest's documents, YAML or JSON, several at once, and writes them as YAML. It knows nothing of what they mean. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Composer, LineCounter, Parser, stringify, type Document } from 'yaml';
import { ClawError } from '../errors.ts';

export interface ManifestDocument {
  /** Counted from 0, documents that hold nothing left out. */
  readonly index: number;
  readonly kind: string;
  readonly apiVersion: string;
  readonly object: unknown;
}

/** An alias that repeats another one over and over could fill the memory. */
const MAX_ALIASES = 100;

/** So many documents are read in one go: a large manifest takes seconds, and whoever reads it has other things to do as well. */
const DOCUMENTS_AT_ONCE = 16;

/** The objects of a manifest, those inside of Lists too. Throws INVALID_ARGUMENT with line and column, or the document's number. */
export async function readManifest(text: string): Promise<ManifestDocument[]> {
  const lines = new LineCounter();
  const documents = new Composer({ uniqueKeys: true }).compose(new Parser(lines.addNewLine).parse(text));
  const values: unknown[] = [];
  for (const document of documents) {
    values.push(valueOf(document, lines));
    if (values.length % DOCUMENTS_AT_ONCE === 0) await nextTurn();
  }
  const objects = values.filter((value) => value !== null && value !== undefined).flatMap(itemsOf);
  return objects.map((object, index) => {
    const { kind, apiVersion } = headOf(object);
    if (kind === undefined || apiVersion === undefined) {
      const path = `manifest[${index}].${kind === undefined ? 'kind' : 'apiVersion'}`;
      throw new ClawError('INVALID_ARGUMENT', `${path}: is missing`, { path, hint: 'E.g. apiVersion: networking.k8s.io/v1, kind: NetworkPolicy.' });
    }
    return { index, kind, apiVersion, object };
  });
}

function valueOf(document: Document.Parsed, lines: LineCounter): unknown {
  const [error] = document.errors;
  if (error !== undefined) {
    const { line, col } = lines.linePos(error.pos[0]);
    throw wrong(`${error.message} at line ${line}, column ${col}`, error);
  }
  try {
    return document.toJS({ maxAliasCount: MAX_ALIASES });
  } catch (cause) {
    throw wrong(cause instanceof Error ? cause.message : 'not YAML', cause);
  }
}

/** One document for each object. */
export function writeManifest(objects: readonly object[]): string {
  // What older readers of YAML take for a boolean or a number, such as `on` and `0o7`, stands in quotes.
  return objects.map((object) => stringify(object, { compat: 'yaml-1.1', aliasDuplicateObjects: false, lineWidth: 0 })).join('---\n');
}

function itemsOf(value: unknown): readonly unknown[] {
  const { kind, apiVersion } = headOf(value);
  if (typeof value !== 'object' || value === null || kind === undefined || !kind.endsWith('List') || !('items' in value) || !Array.isArray(value.items)) return [value];
  // The items of a typed list, a NetworkPolicyList, need not say their kind.
  const head = kind === 'List' ? {} : { kind: kind.slice(0, -'List'.length), apiVersion };
  return value.items.map((item: unknown) => (typeof item === 'object' && item !== null ? { ...head, ...item } : item));
}

function headOf(value: unknown): { kind?: string; apiVersion?: string } {
  if (typeof value !== 'object' || value === null) return {};
  return {
    ...('kind' in value && typeof value.kind === 'string' ? { kind: value.kind } : {}),
    ...('apiVersion' in value && typeof value.apiVersion === 'string' ? { apiVersion: value.apiVersion } : {}),
  };
}

function wrong(message: string, cause: unknown): ClawError {
  return new ClawError('INVALID_ARGUMENT', `manifest: ${message}`, { path: 'manifest', hint: 'A manifest is YAML or JSON; documents are divided by a line of ---.', cause });
}
