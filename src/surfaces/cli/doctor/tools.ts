/** The programs that clawnode uses, with the Debian package behind each; it starts none but to ask for its version. */
import { existsSync } from 'node:fs';
import { request } from 'node:http';
import { run, type Argv } from '../../../drivers/exec.ts';
import { toClawError } from '../../../errors.ts';
import { missingUlogd } from '../../../flows/ulogd-config.ts';
import type { Finding } from './finding.ts';

/** Node.js, and every program in the order in which they are shown. */
export async function inspectTools(signal: AbortSignal): Promise<Finding[]> {
  return [nodeVersion(), ...(await Promise.all([...PROGRAMS.map((program) => checkProgram(program, signal)), flowLog(signal)]))];
}

export function nodeVersion(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const ok = major > 24 || (major === 24 && minor >= 16);
  return {
    area: 'tools',
    name: 'node',
    need: 'required',
    state: ok ? 'ok' : 'missing',
    detail: ok ? `v${process.versions.node}` : `v${process.versions.node} is older than v24.16`,
    purpose: 'runs clawnode',
    ...(ok ? {} : { fix: 'Install Node.js 24.16 or newer.' }),
  };
}

interface Program {
  readonly argv: Argv;
  readonly package: string;
  readonly purpose: string;
}

// mount, setpriv and the rest of util-linux are in the smallest Debian; iproute2, procps and what follows are not.
const PROGRAMS: readonly Program[] = [
  { argv: ['iptables', '--version'], package: 'iptables', purpose: 'programs services and isolation' },
  { argv: ['nft', '--version'], package: 'nftables', purpose: 'tells when others change rules' },
  { argv: ['ipset', '--version'], package: 'ipset', purpose: 'sets of addresses in rules' },
  { argv: ['ip', '-V'], package: 'iproute2', purpose: 'interfaces, routes, network namespaces' },
  { argv: ['conntrack', '--version'], package: 'conntrack', purpose: 'ends connections to endpoints that are gone' },
  { argv: ['sysctl', '--version'], package: 'procps', purpose: 'forwarding and other kernel settings' },
  { argv: ['setpriv', '--version'], package: 'util-linux', purpose: 'takes rights away from workloads' },
  { argv: ['unshare', '--version'], package: 'util-linux', purpose: 'opens sandboxes and confines workloads' },
  { argv: ['nsenter', '--version'], package: 'util-linux', purpose: 'enters sandboxes' },
  { argv: ['flock', '--version'], package: 'util-linux', purpose: 'one supervisor per workload' },
  { argv: ['mount', '--version'], package: 'mount', purpose: 'furnishes sandboxes' },
];

async function checkProgram({ argv, package: packageName, purpose }: Program, signal: AbortSignal): Promise<Finding> {
  const finding = { area: 'tools', name: argv[0], need: 'required', purpose, package: packageName } as const;
  try {
    // `ipset --version` ends with 1 for an ordinary user: it asks the kernel for its version too, which only root may.
    const { stdout, stderr } = await run(argv, { signal, okExitCodes: [0, 1] });
    const version = versionIn(stdout) ?? versionIn(stderr);
    if (version === undefined) return { ...finding, state: 'warning', detail: `tells no version: ${(stderr || stdout).trim().split('\n')[0] ?? ''}` };
    return { ...finding, state: 'ok', detail: version };
  } catch (thrown) {
    signal.throwIfAborted();
    const error = toClawError(thrown);
    if (error.code === 'MISSING_BINARY') return { ...finding, state: 'missing', detail: 'not installed' };
    return { ...finding, state: 'warning', detail: error.message };
  }
}

/** The version in a program's own words, with what stands in brackets behind it: iptables names its backend there. */
function versionIn(text: string): string | undefined {
  return /\d+\.\d+[\w.-]*( \((nf_tables|legacy)\))?/.exec(text)?.[0];
}

/** Its package brings ulogd itself; without it policies are enforced, and nobody is told of what they deny. */
async function flowLog(signal: AbortSignal): Promise<Finding> {
  const program = { argv: ['ulogd', '--version'], package: 'ulogd2-json', purpose: 'tells which connections policies deny' } as const;
  const finding = { ...(await checkProgram(program, signal)), need: 'recommended' } as const;
  return finding.state !== 'missing' && missingUlogd() !== undefined ? { ...finding, state: 'missing', detail: 'its JSON output is not installed' } : finding;
}

export interface DockerUse {
  readonly enabled: boolean;
  readonly socket: string;
}

const DOCKER_TIMEOUT_MS = 3000;

/** Nothing to say where there is no Docker and none is asked for. */
export async function inspectDocker({ enabled, socket }: DockerUse): Promise<Finding[]> {
  const finding = { area: 'tools', name: 'Docker', need: 'optional', purpose: 'containers as workloads' } as const;
  if (!enabled) {
    if (!existsSync(socket)) return [];
    return [{ ...finding, state: 'note', detail: 'an Engine is here, and the configuration does not let the agent use it', fix: 'Set `workloads.docker.enabled: true` in the configuration to run containers as workloads.' }];
  }
  const problem = await ping(socket);
  if (problem === undefined) return [{ ...finding, state: 'ok', detail: 'the Engine answers' }];
  if (problem === 'EACCES') return [{ ...finding, state: 'note', detail: `only root can tell whether the Engine answers on ${socket}` }];
  return [{ ...finding, state: 'warning', detail: `the configuration allows containers, and no Engine answers on ${socket} (${problem})`, fix: 'Start it (`sudo systemctl start docker`), or name its socket in `workloads.docker.socket`.' }];
}

/** The system's name of what went wrong. */
function ping(socketPath: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const asked = request({ socketPath, path: '/_ping', timeout: DOCKER_TIMEOUT_MS }, (response) => {
      response.resume();
      resolve(response.statusCode === 200 ? undefined : `it answered ${response.statusCode ?? 'nothing'}`);
    });
    asked.on('timeout', () => asked.destroy(new Error('no answer')));
    asked.on('error', (error) => resolve('code' in error && typeof error.code === 'string' ? error.code : error.message));
    asked.end();
  });
}
