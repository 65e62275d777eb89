/** Turns the registry into what tools/list sends: compact JSON schemas that cost a model few tokens. It never validates. */
import { z } from 'zod';
import type { Tool } from '../../tools/define.ts';
import { isDestructive } from '../call-limits.ts';

type Json = z.infer<ReturnType<typeof z.json>>;

/** A JSON schema node, as plain JSON. */
export type JsonSchema = { [keyword: string]: Json };

interface ObjectSchema extends JsonSchema {
  readonly type: 'object';
  readonly properties: Record<string, JsonSchema>;
  readonly required?: string[];
}

/** Each hint is given in full, since hosts take an absent `destructiveHint` or `openWorldHint` for true. */
export interface ToolAnnotations {
  readonly readOnlyHint: boolean;
  readonly destructiveHint: boolean;
  readonly idempotentHint: boolean;
  readonly openWorldHint: boolean;
}

/** What a model reads to fill in the arguments. Patterns and length limits are left to the agent, whose errors name the path. */
export function inputSchema(tool: Tool): ObjectSchema {
  const { properties, required } = shape(tool.input, 'input');
  return {
    type: 'object',
    properties: Object.fromEntries(Object.entries(properties).map(([key, schema]) => [key, withoutEcho(key, argument(tool, schema))])),
    ...(required.length === 0 ? {} : { required }),
    additionalProperties: false,
  };
}

/** What an update takes inside its arguments is what create takes, and said there. */
function argument({ command }: Tool, schema: JsonSchema): JsonSchema {
  const whole = compact(schema);
  return command.endsWith('.update') && ('properties' in whole || 'items' in whole) ? briefly(whole) : whole;
}

/** The answer's fields one level deep: looser than what the agent answers, never stricter, since hosts refuse what does not match. Which are always there costs more than it tells. */
export function outputSchema(tool: Tool): ObjectSchema {
  const { properties } = shape(tool.output, 'output');
  return { type: 'object', properties: mapValues(properties, outline) };
}

/** Hints for hosts that ask before they call; what they say is enforced elsewhere. */
export function annotations(tool: Tool): ToolAnnotations {
  return {
    readOnlyHint: tool.effect === 'read',
    // As the protocol defines it: whatever does more than add.
    destructiveHint: isDestructive(tool),
    idempotentHint: tool.idempotent,
    openWorldHint: false,
  };
}

// What a model does not need to fill in an argument right; the agent checks all of it.
const DROPPED = new Set(['$schema', 'propertyNames', 'pattern', 'format', 'minLength', 'maxLength', 'maxItems', 'minItems']);

function compact(schema: JsonSchema): JsonSchema {
  // Its form is said elsewhere: in words that cost less, in the argument beside it, or in the command that creates what this one changes.
  const { brief } = schema;
  if (typeof brief === 'string') return briefly({ ...schema, description: brief });
  if (brief === true) return briefly(schema);
  const kept = Object.entries(schema).filter(([keyword, value]) => !DROPPED.has(keyword) && !isKnownBound(keyword, value) && !isClosed(keyword, value) && !isEmptyDefault(keyword, value));
  const node = Object.fromEntries(kept.map(([keyword, value]) => [keyword, compactValue(keyword, value)]));
  return withItems(mergeAlternatives(node));
}

function briefly({ type, description }: JsonSchema): JsonSchema {
  return withItems({ ...(type === undefined ? {} : { type }), ...(description === undefined ? {} : { description }) });
}

/** OpenAI and VS Code refuse a whole tool for one list that does not say what it holds, wherever it stands. */
function withItems(schema: JsonSchema): JsonSchema {
  const { type, items } = schema;
  const isList = type === 'array' || (Array.isArray(type) && type.includes('array'));
  return isList && items === undefined ? { ...schema, items: { type: 'object' } } : schema;
}

function compactValue(keyword: string, value: Json): Json {
  if (keyword === 'default' || keyword === 'enum' || keyword === 'const') return value;
  if (keyword === 'properties' && isSchema(value)) return mapValues(value, (child) => (isSchema(child) ? withoutBounds(compact(child)) : child));
  if (Array.isArray(value)) return value.map((child) => (isSchema(child) ? compact(child) : child));
  return isSchema(value) ? compact(value) : value;
}

/** `anyOf` of bare types reads shorter as a list of types, and `null` joins whatever type stands beside it. */
function mergeAlternatives(node: JsonSchema): JsonSchema {
  const { anyOf, ...rest } = node;
  if (!Array.isArray(anyOf)) return node;
  const alternatives = anyOf.filter(isSchema);
  const types = [...new Set(alternatives.flatMap(({ type }) => type ?? []))];
  const detailed = alternatives.filter((alternative) => Object.keys(alternative).length > 1);
  const [only = {}] = detailed;
  if (detailed.length > 1 || alternatives.some(({ type }) => type === undefined)) return node;
  const { enum: values } = only;
  return { ...only, ...rest, ...(types.includes('null') && Array.isArray(values) ? { enum: [...values, null] } : {}), type: types };
}

/** Inside an argument the bounds of a number cost more than they help: they are wide, and the agent's errors name them. */
function withoutBounds({ minimum: _minimum, maximum: _maximum, ...schema }: JsonSchema): JsonSchema {
  return schema;
}

/** Only whether it is a number, a yes or no, or a list; the rest is said by its name, by SKILL.md and by the docs. */
function outline(schema: JsonSchema): JsonSchema {
  const { type, anyOf } = compact(schema);
  if (type !== undefined) return type === 'string' || type === 'object' ? {} : { type };
  const alternatives = Array.isArray(anyOf) ? anyOf.map((alternative) => (isSchema(alternative) ? alternative['type'] : undefined)) : [];
  const types = alternatives.filter((each) => each !== undefined);
  return types.length === 0 || types.length < alternatives.length ? {} : { type: [...new Set(types)] };
}

function shape(schema: z.ZodObject, io: 'input' | 'output'): { properties: Record<string, JsonSchema>; required: string[] } {
  return objectSchema.parse(z.toJSONSchema(schema, { io, unrepresentable: 'any' }));
}

const objectSchema = z.object({ properties: z.record(z.string(), z.record(z.string(), z.json())).default({}), required: z.array(z.string()).default([]) });

/** "Name" under the key `name` tells a model nothing; the docs do show it. */
function withoutEcho(key: string, schema: JsonSchema): JsonSchema {
  const { description, ...rest } = schema;
  return typeof description === 'string' && description.toLowerCase() === key.toLowerCase() ? rest : schema;
}

/** Bounds that nobody needs to be told: that a count is no less than 0 or 1, where ports end, and what a number can hold. */
function isKnownBound(keyword: string, value: Json): boolean {
  if (keyword === 'minimum') return value === 0 || value === 1 || value === Number.MIN_SAFE_INTEGER;
  return keyword === 'maximum' && (value === 65_535 || value === Number.MAX_SAFE_INTEGER);
}

// Nested objects are refused when they hold unknown keys too, but saying so in each of them costs more than it helps.
function isClosed(keyword: string, value: Json): boolean {
  return keyword === 'additionalProperties' && value === false;
}

/** What is left out of a call is empty unless something else is said. */
function isEmptyDefault(keyword: string, value: Json): boolean {
  return keyword === 'default' && typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}

function isSchema(value: Json): value is JsonSchema {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function mapValues<In, Out>(record: Readonly<Record<string, In>>, map: (value: In) => Out): Record<string, Out> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value)]));
}
