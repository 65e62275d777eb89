/** The parameters and answers of commands as people read them: names, types in words, defaults. Made from the schemas alone. */
import { z } from 'zod';

/** A node of a JSON schema. */
export type Json = Readonly<Record<string, unknown>>;

/** One field of a command's parameters or answer; `type` as people write it. */
export interface Field {
  readonly name: string;
  readonly type: string;
  readonly required: boolean;
  readonly default: unknown;
  readonly description: string;
}

/** The fields of one level of a schema, in the order in which it declares them. */
export function fieldsOf(schema: z.ZodObject, io: 'input' | 'output'): Field[] {
  const { properties, required } = z.toJSONSchema(schema, { io, unrepresentable: 'any' });
  return Object.entries(properties ?? {}).map(([name, property]) => {
    const field = record(property);
    const description = descriptionOf(field);
    const echo = description.toLowerCase() === name.toLowerCase();
    return { name, type: typeText(field), required: required?.includes(name) ?? false, default: field['default'], description: echo ? '' : description };
  });
}

/** Its own description. An optional field that may be null carries its description on the alternative that is not. */
export function descriptionOf({ description, anyOf }: Json): string {
  if (typeof description === 'string') return description;
  return Array.isArray(anyOf) ? (anyOf.map((option: unknown) => descriptionOf(record(option))).find((text) => text !== '') ?? '') : '';
}

/** A type as people write it: `1–65535`, `"tcp" | "udp"`, `[{ host, path?, service }]`, `{ key: string }`. */
export function typeText(schema: Json): string {
  const { type, anyOf, items, properties, additionalProperties, required } = schema;
  if (Array.isArray(schema['enum'])) return schema['enum'].map((value: unknown) => JSON.stringify(value)).join(' | ');
  if (schema['const'] !== undefined) return JSON.stringify(schema['const']);
  if (Array.isArray(anyOf)) return [...new Set(anyOf.map((option: unknown) => typeText(record(option))))].join(' | ');
  if (Array.isArray(type)) return type.map((each: unknown) => typeText({ ...schema, type: each })).join(' | ');
  if (type === 'array') return `[${typeText(record(items))}]`;
  if (properties !== undefined) {
    const names = Object.entries(record(properties)).map(([name, value]) => {
      const optional = !(Array.isArray(required) && required.includes(name));
      const nested = record(value);
      const detail = nested['type'] === 'object' || nested['type'] === 'array' ? `: ${typeText(nested)}` : '';
      return `${name}${optional ? '?' : ''}${detail}`;
    });
    return names.length === 0 ? '{}' : `{ ${names.join(', ')} }`;
  }
  if (type === 'object') return `{ key: ${typeText(record(additionalProperties))} }`;
  if (type === 'integer') return rangeText(schema);
  return typeof type === 'string' ? type : 'any';
}

function rangeText({ minimum, maximum }: Json): string {
  const bounded = typeof minimum === 'number' && typeof maximum === 'number' && Number.MIN_SAFE_INTEGER < minimum && maximum < Number.MAX_SAFE_INTEGER;
  return bounded ? `${minimum}–${maximum}` : 'integer';
}

/** A value as an object; what is none has no fields. */
export function record(value: unknown): Json {
  return typeof value === 'object' && value !== null ? Object.fromEntries(Object.entries(value)) : {};
}
