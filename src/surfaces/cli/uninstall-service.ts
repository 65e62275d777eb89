/** `clawnode uninstall-service`: stops the service and removes its files; it ends no workload and removes no rule. */
import { rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { refuseEmptyRoot, requireServiceRights } from './install-service.ts';
import { ownFiles, unitPath, usersPath } from './service/files.ts';
import { systemctl, systemdRuns } from './service/systemd.ts';
import { UNIT_NAME } from './service/unit.ts';
import { stoppedExitCode, stopSignal } from './stop-signal.ts';
import { parseArguments, type Subcommand } from './usage.ts';

export const uninstallService: Subcommand = {
  help: `Usage: clawnode uninstall-service [--force] [--root DIR]

Stops the service that \`clawnode install-service\` wrote and removes its files. Services, workloads and ingress stay up
until \`clawnode cleanup\`; state, configuration, group and users stay too.

  --force     remove files that were edited or that others wrote
  --root DIR  remove them below DIR instead of /; stops nothing

Exit code: 0 done, also when there was none, 1 failed.
`,
  run: async (argv) => {
    const { values } = parseArguments({ args: argv, options: { force: { type: 'boolean', default: false }, root: { type: 'string' } } });
    refuseEmptyRoot(values.root);
    requireServiceRights(values.root);
    const below = resolve(values.root ?? '/');
    const stop = stopSignal();
    try {
      const there = await ownFiles([unitPath(below), usersPath(below)], { force: values.force });
      const isKnown = values.root === undefined && systemdRuns() && there.includes(unitPath(below));
      // Before its file is gone: systemd reads there what enabled it, and how it is stopped.
      if (isKnown) await systemctl(['disable', '--now', UNIT_NAME], stop);
      for (const path of there) await rm(path);
      if (isKnown) await systemctl(['daemon-reload'], stop);
      for (const path of there) process.stdout.write(`removed ${path}\n`);
      process.stdout.write(there.length === 0 ? 'there is no service\n' : 'services, workloads and ingress stay up: `sudo clawnode cleanup` removes them\n');
      return 0;
    } catch (error) {
      if (stop.aborted) return stoppedExitCode(stop);
      throw error;
    }
  },
};
