/** `clawnode install-service`: writes the systemd unit of this machine's agent and makes its group; it starts it only where asked to. */
import { realpathSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { findPackageJSON } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { env, execPath, geteuid, platform } from 'node:process';
import { readConfig } from '../../config.ts';
import { run } from '../../drivers/exec.ts';
import { ClawError, toClawError } from '../../errors.ts';
import { connectAgent, DEFAULT_SOCKET_PATH } from '../agent-client.ts';
import { DEFAULT_CONFIG_FILE } from './service/config-file.ts';
import { readIfThere, unitPath, usersPath, writeFiles } from './service/files.ts';
import { whyUnsafe } from './service/safe-path.ts';
import { systemctl, systemdRuns } from './service/systemd.ts';
import { UNIT_NAME, unitText, usersText, whyUnspeakable } from './service/unit.ts';
import { stoppedExitCode, stopSignal } from './stop-signal.ts';
import { parseArguments, UsageError, type Subcommand } from './usage.ts';

export const installService: Subcommand = {
  help: `Usage: clawnode install-service [--config FILE] [--start] [--force] [--print | --root DIR]

Makes this machine's agent a service of systemd, as root: writes /etc/systemd/system/${UNIT_NAME}, and through
/etc/sysusers.d/clawnode.conf the group whose members may use the agent without being root. Services, workloads and ingress
live on when the service is stopped or restarted. Run it again after an update that moved the program.

  --config FILE  the YAML configuration (${DEFAULT_CONFIG_FILE} if that exists, else all defaults)
  --start        also enable and start it, at once and at every boot
  --force        replace files that were edited or that others wrote, and accept a program that not only root can change
  --print        only print the unit
  --root DIR     write below DIR instead of /, to prepare an image; starts nothing

Exit code: 0 done, 1 failed. \`clawnode uninstall-service\` removes it again.
`,
  run: async (argv) => {
    const { values } = parseArguments({
      args: argv,
      options: {
        config: { type: 'string' },
        start: { type: 'boolean', default: false },
        force: { type: 'boolean', default: false },
        print: { type: 'boolean', default: false },
        root: { type: 'string' },
      },
    });
    if (values.start && (values.print || values.root !== undefined)) throw new UsageError('--start does not go with --print or --root');
    refuseEmptyRoot(values.root);
    if (values.print && values.root !== undefined) throw new UsageError('--print writes nothing, so it takes no --root');
    const stop = stopSignal();
    try {
      await install(values, stop);
      return 0;
    } catch (error) {
      if (stop.aborted) return stoppedExitCode(stop);
      throw error;
    }
  },
};

interface Arguments {
  readonly config?: string | undefined;
  readonly start: boolean;
  readonly force: boolean;
  readonly print: boolean;
  readonly root?: string | undefined;
}

/** Throws NOT_SUPPORTED where there is no systemd that could ever read the unit, PERMISSION_DENIED for anybody but root. */
export function requireServiceRights(root: string | undefined): void {
  if (platform !== 'linux') throw new ClawError('NOT_SUPPORTED', `a service of systemd needs Linux, and this is ${platform}`, { hint: 'Here only the model runs: `clawnode mcp --mode model`.' });
  if (root === undefined && geteuid?.() !== 0) throw new ClawError('PERMISSION_DENIED', 'only root can change the services of this machine', { hint: 'Use sudo, or look at the unit with --print.' });
}

async function install({ config, start, force, print, root }: Arguments, signal: AbortSignal): Promise<void> {
  if (!print) requireServiceRights(root);
  if (start && !systemdRuns()) {
    throw new ClawError('NOT_SUPPORTED', 'systemd does not run here, so it can start nothing', { hint: 'Leave --start out to write the unit only; `sudo clawnode up` runs the agent without systemd.' });
  }
  const configFile = await usualConfig(config);
  const { socketGroup, ingress, flows } = await readConfig(configFile);
  const program = [realpathSync(execPath), join(packageRoot(), 'bin', 'clawnode.js')] as const;
  refuseUnspeakable(program, configFile);
  const unit = unitText({ program, configFile });
  await refuseUnsafe([...(configFile === undefined ? [] : [configFile]), ...program], { force: force || print });
  if (print) return void process.stdout.write(unit);

  const below = resolve(root ?? '/');
  await refuseNoFolder(below);
  const users = usersText({ group: socketGroup, proxyUid: ingress.uid, flowsUid: flows.uid });
  const files = [{ path: unitPath(below), text: unit }, { path: usersPath(below), text: users }];
  const isNew = (await readIfThere(unitPath(below))) === undefined;
  const written = await writeFiles(files, { force });
  for (const { path } of files) say(`${written.includes(path) ? 'wrote' : 'unchanged:'} ${path}`);
  say(await makeUsers({ root, group: socketGroup }, signal));
  if (root !== undefined) return;
  if (start) return await startNow(signal);
  sayNext({ isNew, group: socketGroup });
}

/** A variable that is not set in a script would else mean the present folder. */
export function refuseEmptyRoot(root: string | undefined): void {
  if (root === '') throw new UsageError('--root names no directory');
}

async function refuseNoFolder(path: string): Promise<void> {
  const stats = await stat(path).catch(() => undefined);
  if (stats?.isDirectory() === false) throw new ClawError('INVALID_ARGUMENT', `${path} is no directory`, { path: '--root', hint: 'Give the root directory of the image.' });
}

function refuseUnspeakable(program: readonly string[], configFile: string | undefined): void {
  const problems = [...program.map((path, index) => whyUnspeakable(path, { isProgram: index === 0 })), configFile === undefined ? undefined : whyUnspeakable(configFile, { isProgram: false })];
  const problem = problems.find((reason) => reason !== undefined);
  if (problem !== undefined) throw new ClawError('NOT_SUPPORTED', `no unit can name it: ${problem}`, { hint: 'Move it to a path without such characters.' });
}

async function usualConfig(wished: string | undefined): Promise<string | undefined> {
  if (wished !== undefined) return resolve(wished);
  return (await readIfThere(DEFAULT_CONFIG_FILE)) === undefined ? undefined : DEFAULT_CONFIG_FILE;
}

async function refuseUnsafe(paths: readonly string[], { force }: { force: boolean }): Promise<void> {
  for (const path of paths) {
    const reason = await whyUnsafe(path).catch((error: unknown) => `${path} can not be used: ${toClawError(error).message}`);
    if (reason === undefined) continue;
    if (!force) {
      throw new ClawError('NOT_ALLOWED', `a service that runs as root must not depend on ${path}: ${reason}`, {
        hint: 'Put checkout and configuration where only root can write, for example below /opt and /etc, and install from there; or accept it with --force.',
      });
    }
    process.stderr.write(`clawnode install-service: ${reason}\n`);
  }
}

/** What became of the group and the users, in words. */
async function makeUsers({ root, group }: { root: string | undefined; group: string }, signal: AbortSignal): Promise<string> {
  const file = usersPath(resolve(root ?? '/'));
  try {
    await run(['systemd-sysusers', ...(root === undefined ? [] : [`--root=${resolve(root)}`]), file], { signal });
    return `group ${group} is there`;
  } catch (thrown) {
    signal.throwIfAborted();
    const error = toClawError(thrown);
    if (root !== undefined) return `group ${group} comes into being when the image boots (${error.message})`;
    // Without systemd's program the group can still be made; the users are only names.
    if (error.code !== 'MISSING_BINARY') throw thrown;
    await run(['groupadd', '--system', '--force', group], { signal });
    return `group ${group} is there`;
  }
}

async function startNow(signal: AbortSignal): Promise<void> {
  await systemctl(['daemon-reload'], signal);
  await systemctl(['enable', UNIT_NAME], signal);
  // One that runs already takes up the new unit, and workloads and ingress do not notice.
  await systemctl(['restart', UNIT_NAME], signal).catch((error: unknown) => {
    throw new ClawError('PROCESS_FAILED', `the service does not start: ${toClawError(error).message}`, { hint: 'Its words: `journalctl -u clawnode -e`. It is tried again every second.', cause: error });
  });
  const { node, version, pid } = await connectAgent(DEFAULT_SOCKET_PATH).health(signal);
  say(`enabled and started: clawnode ${version}, node ${node}, pid ${pid}`);
}

function sayNext({ isNew, group }: { isNew: boolean; group: string }): void {
  const user = env['SUDO_USER'] ?? 'USER';
  say(systemdRuns() ? 'next:' : 'systemd does not run here; where it does:');
  say('  systemctl daemon-reload');
  say(`  systemctl ${isNew ? 'enable --now' : 'restart'} clawnode`);
  say(`  usermod --append --groups ${group} ${user}    # lets ${user} use the agent, from the next login on`);
}

function packageRoot(): string {
  const manifest = findPackageJSON(import.meta.url);
  if (manifest === undefined) throw new ClawError('INTERNAL', 'this program lies in no package');
  return realpathSync(dirname(manifest));
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
