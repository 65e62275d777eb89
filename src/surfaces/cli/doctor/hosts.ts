/** Which hosts of MCP servers this user has, whether ours is among their servers, and whether it would start; it changes no file. */
import { accessSync, constants, existsSync, realpathSync, statSync } from 'node:fs';
import { delimiter, isAbsolute, join } from 'node:path';
import { geteuid } from 'node:process';
import { run, type Argv } from '../../../drivers/exec.ts';
import { toClawError } from '../../../errors.ts';
import type { Finding } from './finding.ts';
import { ownServers, readHostFile, type HostServer } from './host-file.ts';
import { configFolder, hostPlaces, SERVER_NAME, type HostPlace, type Surroundings } from './host-places.ts';
import { inspectOpenClaw } from './openclaw.ts';

export interface HostOptions extends Surroundings {
  /** Of this program. */
  readonly version: string;
}

const VERSION_TIMEOUT_MS = 10_000;

export async function inspectHosts(options: HostOptions, signal: AbortSignal): Promise<Finding[]> {
  const places = await Promise.all(hostPlaces(options).map((place) => inspectPlace(place, options, signal)));
  const found = [...closedFolder(options), ...places.flat(), ...(await inspectOpenClaw(options, (name, server) => judge(name, server, options, signal)))];
  if (found.length > 0) return found;
  const whose = options.home === undefined ? 'this user has no home directory' : options.env['SUDO_USER'] === undefined ? 'none of those we know is set up for this user' : "none is set up for root; run `clawnode doctor` as yourself to see yours";
  return [{ area: 'hosts', name: 'MCP hosts', need: 'optional', state: 'note', detail: `${whose} (Claude Desktop, Claude Code, Cursor, VS Code, OpenClaw)`, purpose: 'agents that use clawnode', fix: 'README.md says how each is given our server.' }];
}

/** A folder of this user's that root has made, for example: neither this user nor a host of theirs sees what is in it. */
function closedFolder({ platform, home, env }: HostOptions): Finding[] {
  const folder = home === undefined ? undefined : configFolder({ platform, home, env });
  if (folder === undefined || !existsSync(folder) || mayEnter(folder)) return [];
  return [{ area: 'hosts', name: 'MCP hosts', need: 'optional', state: 'warning', detail: `this user may not look into ${folder}, and neither may a host of theirs`, purpose: 'agents that use clawnode', fix: `See whose it is: \`ls -ld ${folder}\`.` }];
}

function mayEnter(folder: string): boolean {
  try {
    accessSync(folder, constants.R_OK | constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

async function inspectPlace(place: HostPlace, options: HostOptions, signal: AbortSignal): Promise<Finding[]> {
  const about = { area: 'hosts', name: place.host, need: 'optional', purpose: 'an agent that uses clawnode' } as const;
  const file = await readHostFile(place.file, place.format);
  if (file.kind === 'broken') return [{ ...about, state: 'warning', detail: `${place.file}: ${file.reason}`, fix: 'Put it right: until then the host starts none of its servers.' }];
  if (file.kind === 'absent' && (place.folder === undefined || !existsSync(place.folder))) return [];
  const servers = file.kind === 'absent' ? [] : ownServers(file.value, place.servers, SERVER_NAME);
  if (servers.length === 0) return [{ ...about, state: 'note', detail: `our server is not in ${place.file}`, fix: place.add }];
  return await Promise.all(servers.map(async (server) => ({ ...about, ...(await judge(place.file, server, options, signal)) })));
}

type Judgement = Pick<Finding, 'state' | 'detail' | 'fix'>;

/** Whether the host could start the server. Arguments beyond the script, and the environment, may hold secrets and are not repeated. */
async function judge(file: string, { name, command, args, url }: HostServer, { version, env, platform }: HostOptions, signal: AbortSignal): Promise<Judgement> {
  if (url !== undefined) return { state: 'ok', detail: `"${name}" connects to ${withoutSecrets(url)}` };
  if (command === undefined) return { state: 'warning', detail: `"${name}" in ${file} has no command`, fix: `Give it "command": "clawnode", "args": ["mcp"].` };
  const program = locate(command, env, platform);
  // What stands there beside the program may be a secret, and is not repeated.
  if (program === undefined && /\s/.test(command) && (!isAbsolute(command) || /\s-|clawnode\S*\s/.test(command))) return { state: 'warning', detail: `the command of "${name}" holds more than a program (${file})`, fix: 'Give it "command": "clawnode", "args": ["mcp"].' };
  if (program === undefined) {
    const hint = isAbsolute(command) ? 'Put the present path there: `command -v clawnode` tells it.' : 'Put an absolute path there (no ~), or make `npm link` put it on the PATH.';
    return { state: 'warning', detail: `"${name}" starts ${command}, which ${isAbsolute(command) ? 'does not exist or is no program' : 'is not on the PATH'} (${file})`, fix: hint };
  }
  const script = args.find((arg) => /(^|[/\\])clawnode\.js$/.test(arg));
  // Which folder a host starts its servers in is nowhere promised.
  if (script !== undefined && !isAbsolute(script)) return { state: 'warning', detail: `"${name}" runs ${script}, which is no absolute path (${file})`, fix: 'Put the absolute path of bin/clawnode.js there.' };
  if (script !== undefined && !existsSync(script)) return { state: 'warning', detail: `"${name}" runs ${script}, which does not exist (${file})`, fix: 'Put the path of bin/clawnode.js there as it is now.' };
  const isOurs = script !== undefined || /(^|[/\\])clawnode(\.js|\.cmd)?$/.test(command);
  if (isOurs && !args.includes('mcp')) return { state: 'warning', detail: `"${name}" starts clawnode without \`mcp\` (${file})`, fix: 'Give it "args": ["mcp"].' };
  const where = script ?? program;
  // Root must not run what stands in a file that others may write to.
  if (!isOurs || geteuid?.() === 0) return { state: 'ok', detail: `"${name}" starts ${where}` };
  return await tryOut({ name, where, argv: [program, ...(script === undefined ? [] : [script]), '--version'] }, version, signal);
}

async function tryOut({ name, where, argv }: { name: string; where: string; argv: Argv }, version: string, signal: AbortSignal): Promise<Judgement> {
  try {
    const said = (await run(argv, { signal, timeoutMs: VERSION_TIMEOUT_MS })).stdout.trim();
    if (said === version) return { state: 'ok', detail: `"${name}" starts ${where}` };
    return { state: 'warning', detail: `"${name}" starts ${where}, which is ${/^[\w.-]{1,40}$/.test(said) ? said : 'no clawnode'}; this is ${version}`, fix: 'Install one version, and start the host again.' };
  } catch (thrown) {
    signal.throwIfAborted();
    return { state: 'warning', detail: `"${name}" starts ${where}, which fails: ${toClawError(thrown).message.slice(0, 200)}`, fix: `Run it yourself: \`${where} --version\`.` };
  }
}

function locate(command: string, env: NodeJS.ProcessEnv, platform: NodeJS.Platform): string | undefined {
  if (isAbsolute(command)) return isProgram(command) ? command : undefined;
  // A host takes the PATH of the desktop or of its shell, which is at best this one.
  const names = platform === 'win32' ? [`${command}.cmd`, `${command}.exe`, command] : [command];
  return (env['PATH'] ?? '').split(delimiter).flatMap((folder) => names.map((name) => join(folder, name))).find(isProgram);
}

function isProgram(path: string): boolean {
  try {
    accessSync(realpathSync(path), constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

function withoutSecrets(url: string): string {
  try {
    const { protocol, host, pathname } = new URL(url);
    return `${protocol}//${host}${pathname === '/mcp' ? pathname : '/...'}`;
  } catch {
    return 'something that is no URL';
  }
}
