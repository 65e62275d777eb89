/** Reads the calls out of SKILL.md, so that tests can check and run what the skill tells an agent to do. */
import { readFile } from 'node:fs/promises';

export interface SkillExample {
  /** The nearest heading above it. */
  readonly section: string;
  readonly command: string;
  readonly params: unknown;
}

export async function readSkill(): Promise<string> {
  return readFile(new URL('../../SKILL.md', import.meta.url), 'utf8');
}

/** Every `node.invoke <node-id> COMMAND {...}` of the code blocks, in order. Throws where the parameters are no JSON. */
export function skillExamples(skill: string): SkillExample[] {
  const examples: SkillExample[] = [];
  let section = '';
  for (const part of skill.split(/^(#+ .*|```\n[^]*?```)$/m)) {
    if (part.startsWith('#')) section = part.replace(/^#+ /, '');
    if (part.startsWith('```')) examples.push(...blockExamples(part.slice(3, -3), section));
  }
  return examples;
}

function blockExamples(block: string, section: string): SkillExample[] {
  const [before = '', ...calls] = block.split(/^node\.invoke <node-id> /m);
  if (before.trim() !== '') throw new Error(`under "${section}" stands ${JSON.stringify(before.trim())}, which is no call`);
  return calls.map((call) => {
    const [, command = '', json = ''] = /^(\S+)\s+([^]*)$/.exec(call) ?? [];
    return { section, command, params: JSON.parse(json) };
  });
}
