/** How OpenClaw is set up for this user, from its files alone: the host itself is not started. */
import { existsSync, globSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Finding } from './finding.ts';
import { objectOf, ownServers, readHostFile, type HostServer } from './host-file.ts';
import { SERVER_NAME, type Surroundings } from './host-places.ts';

type Judge = (file: string, server: HostServer) => Promise<Pick<Finding, 'state' | 'detail' | 'fix'>>;

const about = { area: 'hosts', name: 'OpenClaw', need: 'optional', purpose: 'an agent that uses clawnode' } as const;
const INSTALL = 'In a checkout: `openclaw plugins install "npm-pack:$PWD/$(npm pack --silent)" --force --accept-capabilities`.';

export async function inspectOpenClaw({ home, env, version }: Surroundings & { readonly version: string }, judge: Judge): Promise<Finding[]> {
  const folder = env['OPENCLAW_STATE_DIR'] ?? (home === undefined ? undefined : join(home, '.openclaw'));
  if (folder === undefined || !existsSync(folder)) return [];
  const path = join(folder, 'openclaw.json');
  const file = await readHostFile(path, 'json5');
  if (file.kind === 'broken') return [{ ...about, state: 'warning', detail: `${path}: ${file.reason}`, fix: '`openclaw doctor` says more.' }];
  const value = file.kind === 'absent' ? {} : file.value;
  const servers = await Promise.all(ownServers(value, [['mcp', 'servers']], SERVER_NAME).map(async (server) => ({ ...about, ...(await judge(path, server)) })));
  const plugin = await inspectPlugin(folder, value, version);
  if (plugin !== undefined) return [plugin, ...servers];
  return servers.length > 0 ? servers : [{ ...about, state: 'note', detail: 'neither our plugin nor our MCP server is set up', fix: INSTALL }];
}

async function inspectPlugin(folder: string, value: unknown, version: string): Promise<Finding | undefined> {
  const entry = Object.entries(objectOf(Object.entries(objectOf(at(at(value, 'plugins'), 'entries'))).find(([id]) => id === SERVER_NAME)?.[1]));
  const [manifest] = globSync([`npm/projects/*/node_modules/${SERVER_NAME}/package.json`, `npm/node_modules/${SERVER_NAME}/package.json`, `extensions/${SERVER_NAME}/package.json`], { cwd: folder });
  const installed = manifest === undefined ? undefined : /"version":\s*"([^"]{1,40})"/.exec(await readFile(join(folder, manifest), 'utf8').catch(() => ''))?.[1];
  const isNamed = at(at(at(value, 'plugins'), 'entries'), SERVER_NAME) !== undefined;
  if (manifest === undefined) return isNamed ? { ...about, state: 'warning', detail: 'its configuration names our plugin, and none is installed', fix: INSTALL } : undefined;
  if (entry.some(([key, on]) => key === 'enabled' && on === false)) return { ...about, state: 'warning', detail: `our plugin ${installed ?? ''} is installed and switched off`, fix: `openclaw plugins enable ${SERVER_NAME}` };
  if (installed !== version) return { ...about, state: 'warning', detail: `our plugin is of version ${installed ?? 'unknown'}, this program of ${version}`, fix: INSTALL };
  return { ...about, state: 'ok', detail: `our plugin ${installed} is installed, with the skill \`networking\`` };
}

function at(value: unknown, key: string): unknown {
  return Object.entries(objectOf(value)).find(([name]) => name === key)?.[1];
}
