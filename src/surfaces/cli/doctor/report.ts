/** What `clawnode doctor` found, for people: one line for an area where all is well, the rest with what to do. It checks nothing. */
import { aptCommand, missingPackages } from '../apt.ts';
import { AREAS, isFit, type Finding } from './finding.ts';

const TITLES = { kernel: 'kernel', tools: 'tools', network: 'network', rights: 'rights', agent: 'agent', service: 'service', hosts: 'MCP hosts' } as const;
const WIDTH = 100;
const MARGIN = 21;

/** `all` shows what is in order as well. */
export function report(findings: readonly Finding[], { all }: { all: boolean }): string {
  const areas = AREAS.map((area) => ({ area, members: findings.filter((finding) => finding.area === area) })).filter(({ members }) => members.length > 0);
  const sections = areas.map(({ area, members }) => {
    const told = all ? members : members.filter(({ state }) => state !== 'ok');
    const well = all ? [] : members.filter(({ state }) => state === 'ok');
    const lines = [...(well.length === 0 ? [] : [row({ mark: 'ok', name: '', text: summary(area, well) })]), ...told.map(findingText)];
    return `${TITLES[area]}\n${lines.join('')}`;
  });
  return `${sections.join('')}\n${conclusion(findings)}`;
}

/** Of an area's findings that are in order, what a person would want to know: the rest is under --all. */
function summary(area: Finding['area'], well: readonly Finding[]): string {
  if (area === 'tools') return `${well.length} found: ${well.map(({ name, detail }) => (name === 'node' || name === 'iptables' ? `${name} ${detail}` : name)).join(', ')}`;
  if (area === 'kernel') return well.map(({ name, detail }) => (name === 'Linux' ? `Linux ${detail}` : name)).join(', ');
  if (area === 'network') return well.map(({ name, detail }) => (name.startsWith('port') ? `${name} ${detail}` : name)).join(', ');
  if (area === 'hosts') return well.map(({ name, detail }) => `${name}: ${detail}`).join('; ');
  return well.map(({ name, detail }) => (name === 'configuration' || name === 'systemd' ? `${name} ${detail}` : detail)).join('; ');
}

function findingText({ state, name, detail, fix }: Finding): string {
  return row({ mark: state, name, text: detail }) + (fix === undefined ? '' : wrapped(`→ ${fix}`, 2));
}

function row({ mark, name, text }: { mark: string; name: string; text: string }): string {
  const label = name === '' ? '' : `${name}: `;
  return `  ${mark.padEnd(MARGIN - 13)}${wrapped(`${label}${text}`, 0).trimStart()}`;
}

/** Lines of at most 100 columns, those after the first as far in as `more` says. */
function wrapped(text: string, more: number): string {
  const margin = ' '.repeat(MARGIN - 11);
  const lines: string[] = [];
  let line = margin;
  for (const word of text.split(' ')) {
    const first = line.trim() === '';
    if (!first && line.length + 1 + word.length > WIDTH) {
      lines.push(line);
      line = margin + ' '.repeat(more) + word;
    } else line += first ? word : ` ${word}`;
  }
  return `${[...lines, line].join('\n')}\n`;
}

function conclusion(findings: readonly Finding[]): string {
  const packages = missingPackages(findings);
  const install = packages.length === 0 ? '' : `\n  ${aptCommand(packages)}\n`;
  if (!isFit(findings)) return packages.length === 0 ? 'Something required is missing.\n' : `required and missing:${install}`;
  const warnings = findings.filter(({ state }) => state === 'warning' || state === 'missing').length;
  const words = warnings === 0 ? 'Everything is in order.' : `Everything required is there; ${warnings === 1 ? 'one thing needs' : `${warnings} things need`} a look.`;
  return `${words}\n${packages.length === 0 ? '' : `missing:${install}`}`;
}
