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

/** Every `node.invoke <node-id> COMMAND {...}` of the code blocks, in order; parameters may be left out. Throws where they are no JSON, or where a call is not the first thing of its block. */
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
  if (calls.length > 0 && before.trim() !== '') throw new Error(`under "${section}" stands ${JSON.stringify(before.trim())}, which is no call`);
  return calls.map((call) => {
    const [, command = '', json = ''] = /^(\S+)\s*([^]*)$/.exec(call) ?? [];
    return { section, command, params: json === '' ? {} : JSON.parse(json) };
  });
}

/** As it stands, but for a Node.js that need not lie where workloads look for programs. */
export function withThisNode({ command, params }: SkillExample): unknown {
  if (command !== 'workload.run' || typeof params !== 'object' || params === null || !('command' in params)) return params;
  const { command: given } = params;
  if (!Array.isArray(given) || given[0] !== 'node') throw new Error(`no program of ours: ${JSON.stringify(params)}`);
  return { ...params, command: [process.execPath, ...given.slice(1)] };
}
