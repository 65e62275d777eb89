/** Reads out of a skill's text what is not a call: the JSON of its patterns, and what it promises of answers. It runs nothing. */

export interface SkillObject {
  /** The nearest heading above it. */
  readonly section: string;
  readonly value: Readonly<Record<string, unknown>>;
  /** What a comment behind it says of the answer: `// → clusterIp: "10.201.0.1"`. */
  readonly promised: Readonly<Record<string, string>>;
}

export interface SkillPattern {
  readonly section: string;
  readonly objects: readonly SkillObject[];
  /** Labels that a comment says workloads are run with. */
  readonly workloadLabels: readonly Readonly<Record<string, string>>[];
}

/** The ```json blocks, several objects and comments in each, one pattern per block. Throws where one is no JSON. */
export function skillPatterns(skill: string): SkillPattern[] {
  return parts(skill).flatMap(({ section, fenced }) => (fenced?.language === 'json' ? [pattern(section, fenced.text)] : []));
}

export interface Promises {
  readonly fields: readonly string[];
  /** Fields of each of the things that the answer lists. */
  readonly each: readonly string[];
}

/** What "Returns" says under each heading, by heading. */
export function skillPromises(skill: string): ReadonlyMap<string, Promises> {
  const said = [...Map.groupBy(parts(skill), ({ section }) => section)].flatMap(([section, texts]) => {
    const [, body] = /\bReturns\b([^]*?)(?:\n\n|$)/.exec(texts.map(({ prose }) => prose).join('\n').trim()) ?? [];
    return body === undefined ? [] : [[section, promises(body)] as const];
  });
  return new Map(said);
}

/** Fields that a sentence says a command's response includes, by command. */
export function saidOfCommands(skill: string): ReadonlyMap<string, readonly string[]> {
  const sentences = skill.matchAll(/`([a-z]+\.[a-z_.]+)` includes? ((?:(?:,|and|\s)*`\w+`)+)/g);
  return new Map([...sentences].map(([, command = '', names = '']) => [command, [...names.matchAll(/\w+(?=`)/g)].map(([name]) => name)]));
}

interface Part {
  readonly section: string;
  readonly prose: string;
  readonly fenced?: { readonly language: string; readonly text: string };
}

function parts(skill: string): Part[] {
  let section = '';
  return skill.split(/^(#+ .*|```\w*\n[^]*?^```)$/m).flatMap((part): Part[] => {
    if (/^#+ /.test(part)) {
      section = part.replace(/^#+ /, '');
      return [];
    }
    const [, language, text] = /^```(\w*)\n([^]*)```$/.exec(part) ?? [];
    return language === undefined || text === undefined ? [{ section, prose: part }] : [{ section, prose: '', fenced: { language, text } }];
  });
}

function pattern(section: string, block: string): SkillPattern {
  const objects: SkillObject[] = [];
  const workloadLabels: Readonly<Record<string, string>>[] = [];
  let pending = '';
  for (const line of block.split('\n')) {
    if (line.startsWith('//')) {
      const [, labels] = /workload\.run\b.*?(\{[^}]*\})/.exec(line) ?? [];
      if (labels !== undefined) workloadLabels.push(JSON.parse(labels));
      const [, key, value] = /^\/\/ → .*?\b(\w+): "([^"]*)"/.exec(line) ?? [];
      const last = objects.pop();
      if (last !== undefined) objects.push(key === undefined || value === undefined ? last : { ...last, promised: { ...last.promised, [key]: value } });
      continue;
    }
    pending += line;
    const value = parsed(pending);
    if (value === undefined) continue;
    objects.push({ section, value, promised: {} });
    pending = '';
  }
  if (pending.trim() !== '') throw new Error(`under "${section}" stands ${JSON.stringify(pending)}, which is no JSON`);
  return { section, objects, workloadLabels };
}

/** Undefined while the object has not ended. */
function parsed(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}

/** Words that stand for a field's name. */
const MEANT: Readonly<Record<string, string>> = { 'creation time': 'createdAt', 'per-endpoint details': 'endpoints' };

function promises(body: string): Promises {
  const [, braces] = /`\{([^}]*)\}`/.exec(body) ?? [];
  if (braces !== undefined) return { fields: words(braces), each: [] };
  const bullets = [...body.matchAll(/^- \*\*(\w+)\*\*/gm)].map(([, name = '']) => name);
  if (bullets.length > 0) return { fields: bullets, each: [] };
  const [, each = ''] = /\(([^)]*)\)/.exec(body) ?? [];
  const list = body.replace(/^[^:]*:/, '').replace(/\([^)]*\)/, '');
  return { fields: words(list).map((phrase) => MEANT[phrase] ?? phrase.split(' ', 1)[0] ?? ''), each: words(each) };
}

function words(list: string): string[] {
  return list.split(',').map((word) => word.trim().replace(/^and /, '').replace(/\.$/, '').trim()).filter((word) => word !== '');
}
