/** `clawnode doctor`: shows what this machine lacks, and installs it where asked to. */
import { geteuid } from 'node:process';
import { ClawError } from '../../errors.ts';
import { aptCommand, canInstall, install, missingPackages } from './apt.ts';
import { inspectMachine, type Finding } from './machine.ts';
import { stoppedExitCode, stopSignal } from './stop-signal.ts';
import { table } from './table.ts';
import { parseArguments, type Subcommand } from './usage.ts';

export const doctor: Subcommand = {
  help: `Usage: clawnode doctor [--fix] [--json]

Checks this machine for what clawnode needs and says how to get what is missing.

  --fix   install what is missing (root, Debian or Ubuntu)
  --json  the findings as JSON

Exit code: 0 everything required is there, 1 something required is missing.
`,
  run: async (argv) => {
    const { values } = parseArguments({ args: argv, options: { fix: { type: 'boolean', default: false }, json: { type: 'boolean', default: false } } });
    const stop = stopSignal();
    try {
      const found = await inspectMachine(stop);
      const findings = values.fix && (await fix(found, stop)) ? await inspectMachine(stop) : found;
      process.stdout.write(values.json ? `${JSON.stringify({ ok: isFit(findings), findings }, null, 2)}\n` : report(findings));
      return isFit(findings) ? 0 : 1;
    } catch (error) {
      if (stop.aborted) return stoppedExitCode(stop);
      throw error;
    }
  },
};

/** MISSING_BINARY with the line that installs all that is missing: `doctor --fix` is refused for an ordinary user. Others as they are. */
export async function withRemedy(error: unknown): Promise<unknown> {
  if (!(error instanceof ClawError) || error.code !== 'MISSING_BINARY' || geteuid?.() === 0) return error;
  const packages = missingPackages(await inspectMachine(new AbortController().signal));
  if (packages.length === 0) return error;
  return new ClawError(error.code, error.message, { hint: `On Debian and Ubuntu: \`${aptCommand(packages)}\`.`, cause: error });
}

/** Whether anything was installed. */
async function fix(findings: readonly Finding[], signal: AbortSignal): Promise<boolean> {
  const packages = missingPackages(findings);
  if (packages.length === 0) return false;
  if (!(await canInstall(signal))) {
    throw new ClawError('PERMISSION_DENIED', `installing ${packages.join(' ')} needs root and apt-get`, { hint: `Run \`${aptCommand(packages)}\`.` });
  }
  process.stderr.write(`installing ${packages.join(' ')}\n`);
  await install(packages, signal);
  return true;
}

function isFit(findings: readonly Finding[]): boolean {
  return findings.every(({ need, state }) => need !== 'required' || state !== 'missing');
}

function report(findings: readonly Finding[]): string {
  const rows = findings.map(({ state, name, need, detail, purpose }) => [state, name, state === 'ok' ? '' : need, purpose, detail]);
  const packages = missingPackages(findings);
  const heading = isFit(findings) ? 'missing' : 'required and missing';
  return table(rows) + (packages.length === 0 ? '' : `\n${heading}:\n  ${aptCommand(packages)}\n`);
}
