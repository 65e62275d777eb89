/** Where the hosts of MCP servers that we know keep their configuration, on each system; it opens none of the files. */
import { join, posix, win32 } from 'node:path';

export interface HostPlace {
  readonly host: string;
  readonly file: string;
  /** Whose being there tells that the host is installed although it has no such file yet. */
  readonly folder?: string;
  /** JSON as it is, or with comments and trailing commas. */
  readonly format: 'json' | 'json5';
  /** Where in the file the servers are: each a path of keys, `*` for every key. */
  readonly servers: readonly (readonly string[])[];
  /** How this host is given our server. */
  readonly add: string;
}

export interface Surroundings {
  readonly platform: NodeJS.Platform;
  /** Undefined where this user has none. */
  readonly home: string | undefined;
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
}

export const SERVER_NAME = 'clawbernetes-networking';

export function hostPlaces({ platform, home, cwd, env }: Surroundings): HostPlace[] {
  const project: HostPlace[] = [
    { host: 'VS Code, this folder', file: join(cwd, '.vscode', 'mcp.json'), format: 'json5', servers: [['servers']], add: addJson('servers') },
    { host: 'Claude Code, this folder', file: join(cwd, '.mcp.json'), format: 'json', servers: [['mcpServers']], add: addJson('mcpServers') },
  ];
  if (home === undefined) return project;
  const path = platform === 'win32' ? win32 : posix;
  const config = configFolder({ platform, home, env });
  return [
    { host: 'Claude Desktop', file: path.join(config, 'Claude', 'claude_desktop_config.json'), folder: path.join(config, 'Claude'), format: 'json', servers: [['mcpServers']], add: addJson('mcpServers') },
    { host: 'Claude Code', file: path.join(home, '.claude.json'), format: 'json', servers: [['mcpServers'], ['projects', '*', 'mcpServers']], add: `claude mcp add ${SERVER_NAME} -- clawnode mcp` },
    { host: 'Cursor', file: path.join(home, '.cursor', 'mcp.json'), folder: path.join(home, '.cursor'), format: 'json', servers: [['mcpServers']], add: addJson('mcpServers') },
    { host: 'VS Code', file: path.join(config, 'Code', 'User', 'mcp.json'), folder: path.join(config, 'Code', 'User'), format: 'json5', servers: [['servers']], add: addJson('servers') },
    ...project,
  ];
}

/** Where this user's programs keep their settings. */
export function configFolder({ platform, home, env }: { platform: NodeJS.Platform; home: string; env: NodeJS.ProcessEnv }): string {
  if (platform === 'darwin') return posix.join(home, 'Library', 'Application Support');
  if (platform === 'win32') return env['APPDATA'] ?? win32.join(home, 'AppData', 'Roaming');
  const wished = env['XDG_CONFIG_HOME'];
  return wished === undefined || wished === '' ? posix.join(home, '.config') : wished;
}

function addJson(key: string): string {
  return `Under "${key}": "${SERVER_NAME}": {"command": "clawnode", "args": ["mcp"]}`;
}
