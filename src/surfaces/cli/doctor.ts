/** `clawnode doctor`: checks all that clawnode depends on and says what to do; installs what is missing where asked to. */
import { geteuid } from 'node:process';
import { ClawError } from '../../errors.ts';
import { aptCommand, canInstall, install, missingPackages } from './apt.ts';
import { isFit, type Finding } from './doctor/finding.ts';
import { inspectEverything, inspectMachine } from './doctor/inspect.ts';
import { report } from './doctor/report.ts';
import { stoppedExitCode, stopSignal } from './stop-signal.ts';
import { parseArguments, type Subcommand } from './usage.ts';

export const doctor: Subcommand = {
  help: `Usage: clawnode doctor [--fix] [--all] [--json] [--config FILE]

Checks kernel, programs, ports, address ranges, rights, the agent, its service, and the MCP hosts of this user, and says what to
do about what it finds. It changes nothing, and shows no secret.

  --fix          install what is missing (root, Debian or Ubuntu)
  --all          show what is in order too
  --json         all findings as JSON
  --config FILE  the agent's configuration (that of its service, else /etc/clawnode/config.yaml if it exists)

Exit code: 0 everything required is there, 1 something required is missing.
`,
  run: async (argv) => {
    const { values } = parseArguments({
      args: argv,
      options: {
        fix: { type: 'boolean', default: false },
        all: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        config: { type: 'string' },
      },
    });
    const stop = stopSignal();
    const inspect = (): Promise<Finding[]> => inspectEverything({ configFile: values.config }, stop);
    try {
      const found = await inspect();
      const findings = values.fix && (await fix(found, stop)) ? await inspect() : found;
      process.stdout.write(values.json ? `${JSON.stringify({ ok: isFit(findings), findings }, null, 2)}\n` : report(findings, { all: values.all }));
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
