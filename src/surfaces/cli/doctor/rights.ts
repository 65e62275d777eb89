/** What this user may do, and whether what only the agent or only its user may read is closed to others; it changes no mode. */
import { lstat, readFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { getegid, geteuid, getgroups } from 'node:process';
import type { Config } from '../../../config.ts';
import { defaultTokenFile } from '../../bearer-token.ts';
import type { Finding } from './finding.ts';

export interface RightsOptions {
  readonly config: Config;
  readonly stateDir: string;
  readonly env: NodeJS.ProcessEnv;
}

export async function inspectRights({ config, stateDir, env }: RightsOptions): Promise<Finding[]> {
  const checks = await Promise.all([socketGroup(config.socketGroup), stateDirectory(stateDir), tokenFile(env)]);
  return [await user(), ...checks.filter((finding) => finding !== undefined)];
}

async function user(): Promise<Finding> {
  const finding = { area: 'rights', name: 'user', need: 'optional', state: 'ok', purpose: 'who runs clawnode' } as const;
  if (geteuid?.() === 0 && !(await isWholeRoot())) return { ...finding, detail: 'root of a user namespace only, as in a sandbox' };
  if (geteuid?.() === 0) return { ...finding, detail: 'root: may run the agent of this machine' };
  return { ...finding, detail: `${userName()}: may open sandboxes; the agent of this machine needs root` };
}

/** The machine's first user namespace maps every id to itself. */
async function isWholeRoot(): Promise<boolean> {
  return /^\s*0\s+0\s+4294967295\s*$/.test(await readFile('/proc/self/uid_map', 'utf8').catch(() => '0 0 4294967295'));
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // A uid without an entry, as in many containers.
    return `uid ${geteuid?.() ?? '?'}`;
  }
}

async function socketGroup(group: string): Promise<Finding> {
  const finding = { area: 'rights', name: `group ${group}`, need: 'optional', purpose: 'may use the agent without being root' } as const;
  const [, , id = '', members = ''] = ((await readFile('/etc/group', 'utf8').catch(() => '')).split('\n').find((line) => line.startsWith(`${group}:`)) ?? '').split(':');
  if (id === '') return { ...finding, state: 'note', detail: 'there is none, so only root may use the agent', fix: `\`sudo clawnode install-service\` makes it, or \`sudo groupadd --system ${group}\`, before the agent starts.` };
  if (geteuid?.() === 0) return { ...finding, state: 'ok', detail: members === '' ? 'has no members yet' : `its members: ${members.split(',').join(', ')}` };
  const name = userName();
  if ([getegid?.(), ...(getgroups?.() ?? [])].includes(Number(id))) return { ...finding, state: 'ok', detail: `${name} is a member` };
  if (members.split(',').includes(name)) return { ...finding, state: 'warning', detail: `${name} is a member, but was not when this session began`, fix: `Log in again, or run \`newgrp ${group}\`.` };
  return { ...finding, state: 'note', detail: `${name} is no member, and may not use the agent of this machine`, fix: `sudo usermod --append --groups ${group} ${name}` };
}

async function stateDirectory(path: string): Promise<Finding | undefined> {
  const finding = { area: 'rights', name: 'state', need: 'recommended', purpose: 'what the agent keeps' } as const;
  const stats = await lstat(path).catch(() => undefined);
  if (stats === undefined) return undefined;
  if (!stats.isDirectory()) return { ...finding, state: 'warning', detail: `${path} is no directory`, fix: 'Move it away.' };
  if (stats.uid !== 0) return { ...finding, state: 'warning', detail: `${path} belongs to uid ${stats.uid}, and must be root's`, fix: `sudo chown root:root ${path}` };
  const mode = (stats.mode & 0o777).toString(8);
  if ((stats.mode & 0o077) !== 0) return { ...finding, state: 'warning', detail: `others may enter ${path} (mode ${mode})`, fix: `sudo chmod 700 ${path}` };
  return { ...finding, state: 'ok', detail: `${path} is root's alone` };
}

async function tokenFile(env: NodeJS.ProcessEnv): Promise<Finding | undefined> {
  const finding = { area: 'rights', name: 'MCP token', need: 'recommended', purpose: 'whoever has it may use `clawnode mcp --http`' } as const;
  const path = pathOfToken(env);
  const stats = path === undefined ? undefined : await lstat(path).catch(() => undefined);
  if (path === undefined || stats === undefined) return undefined;
  if (stats.uid !== geteuid?.() && stats.uid !== 0) return { ...finding, state: 'warning', detail: `${path} belongs to uid ${stats.uid}, and is not used`, fix: 'Name one of your own with `clawnode mcp --http --token-file FILE`.' };
  if ((stats.mode & 0o077) === 0) return { ...finding, state: 'ok', detail: `${path} is closed to others` };
  return { ...finding, state: 'warning', detail: `others may use ${path} (mode ${(stats.mode & 0o777).toString(8)}), so it is refused`, fix: `Run \`chmod 600 ${path}\`; if somebody may have read it, remove it, and a new one is made.` };
}

/** Undefined where this user has no home. */
function pathOfToken(env: NodeJS.ProcessEnv): string | undefined {
  try {
    return defaultTokenFile(env);
  } catch {
    return undefined;
  }
}
