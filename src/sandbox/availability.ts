/** Finds out why this machine gives an ordinary user no namespaces; it changes no setting. */
import { readFile } from 'node:fs/promises';
import { geteuid } from 'node:process';
import { run } from '../drivers/exec.ts';
import { ClawError, toClawError } from '../errors.ts';

interface Setting {
  readonly name: string;
  readonly path: string;
  readonly off: string;
  readonly on: string;
  /** Whether the setting binds root as well. */
  readonly bindsRoot: boolean;
}

const SETTINGS: readonly Setting[] = [
  { name: 'user.max_user_namespaces', path: '/proc/sys/user/max_user_namespaces', off: '0', on: '15000', bindsRoot: true },
  { name: 'kernel.unprivileged_userns_clone', path: '/proc/sys/kernel/unprivileged_userns_clone', off: '0', on: '1', bindsRoot: false },
  {
    name: 'kernel.apparmor_restrict_unprivileged_userns',
    path: '/proc/sys/kernel/apparmor_restrict_unprivileged_userns',
    off: '1',
    on: '0',
    bindsRoot: false,
  },
];

/** Tries what a sandbox is made of. Undefined when it works, else SANDBOX_UNAVAILABLE that names the setting in the way. */
export async function sandboxObstacle(signal: AbortSignal): Promise<ClawError | undefined> {
  try {
    await run(['unshare', '--user', '--map-root-user', '--net', 'true'], { signal });
    return undefined;
  } catch (thrown) {
    signal.throwIfAborted();
    const error = toClawError(thrown);
    return error.code === 'MISSING_BINARY' ? error : obstacle(error);
  }
}

async function obstacle(cause: ClawError): Promise<ClawError> {
  const isRoot = geteuid?.() === 0;
  for (const setting of SETTINGS) {
    if (isRoot && !setting.bindsRoot) continue;
    const value = (await readFile(setting.path, 'utf8').catch(() => '')).trim();
    if (value !== setting.off) continue;
    return new ClawError('SANDBOX_UNAVAILABLE', `user namespaces are off here: ${setting.name} = ${value}`, {
      hint: choices(setting, isRoot),
      cause,
    });
  }
  return new ClawError('SANDBOX_UNAVAILABLE', `user namespaces cannot be used here: ${cause.message}`, {
    hint: 'No known setting forbids them, so a container runtime or a security module probably does: run outside that container, or as root, or rehearse without a kernel with `clawnode mcp --mode model`.',
    cause,
  });
}

function choices(setting: Setting, isRoot: boolean): string {
  const allow = `${isRoot ? '' : 'sudo '}sysctl -w ${setting.name}=${setting.on}`;
  const host = 'run the agent on the machine itself with `sudo clawnode up`, or rehearse without a kernel with `clawnode mcp --mode model`';
  if (setting.bindsRoot) return `Allow them with \`${allow}\`, ${host}.`;
  const profile = setting.name.includes('apparmor') ? ', give /usr/bin/unshare an AppArmor profile with `userns,`' : '';
  return `Run this as root${profile}, allow them with \`${allow}\`, ${host}.`;
}
