/** Runs the checks of `clawnode doctor`, area by area; it judges nothing itself. */
import { homedir } from 'node:os';
import { cwd, env, platform } from 'node:process';
import { readConfig, type Config } from '../../../config.ts';
import { toClawError } from '../../../errors.ts';
import { version } from '../../../version.ts';
import { agentSocketPath, DEFAULT_SOCKET_PATH } from '../../agent-client.ts';
import { DEFAULT_CONFIG_FILE } from '../service/config-file.ts';
import { readIfThere } from '../service/files.ts';
import { DEFAULT_STATE_DIR } from '../state-path.ts';
import { inspectAgent } from './agent.ts';
import type { Finding } from './finding.ts';
import { inspectHosts } from './hosts.ts';
import { inspectKernel } from './kernel.ts';
import { inspectNetwork } from './network.ts';
import { inspectPorts } from './ports.ts';
import { inspectRights } from './rights.ts';
import { inspectService, installedService } from './service.ts';
import { inspectDocker, inspectTools, nodeVersion } from './tools.ts';

/** What must be there before anything of clawnode can run on this machine: kernel and tools. */
export async function inspectMachine(signal: AbortSignal): Promise<Finding[]> {
  return (await Promise.all([inspectKernel(signal), inspectTools(signal)])).flat();
}

export interface DoctorOptions {
  /** The agent's; the service's, the usual one or all defaults without it. */
  readonly configFile?: string | undefined;
  readonly system?: NodeJS.Platform;
}

/** Everything, in the order in which it is shown. */
export async function inspectEverything({ configFile, system = platform }: DoctorOptions, signal: AbortSignal): Promise<Finding[]> {
  const own = version();
  const hosts = inspectHosts({ platform: system, home: home(), cwd: folder(), env, version: own }, signal);
  const agent = inspectAgent({ socketPath: agentSocketPath(), version: own }, signal);
  if (system !== 'linux') return [notLinux(system), nodeVersion(), ...(agentSocketPath() === DEFAULT_SOCKET_PATH ? [] : await agent), ...(await hosts)];
  const { config, findings } = await usualConfig(configFile);
  const areas = [
    inspectMachine(signal),
    inspectDocker(config.workloads.docker),
    inspectNetwork(config, signal),
    inspectPorts(config, signal),
    inspectRights({ config, stateDir: DEFAULT_STATE_DIR, env }),
    agent,
    inspectService({ root: '/', version: own }, signal),
    hosts,
  ];
  return [...findings, ...(await Promise.all(areas)).flat()];
}

function notLinux(system: NodeJS.Platform): Finding {
  return {
    area: 'kernel',
    name: 'system',
    need: 'optional',
    state: 'note',
    detail: `${system} has no Linux kernel to program: here runs the model, which enforces nothing and says so`,
    purpose: 'enforces everything',
    fix: 'Rehearse with `clawnode mcp --mode model` or `clawnode simulate -f FILE`; for the rest use a Linux machine, a virtual one too.',
  };
}

/** A configuration that can not be used is a finding too; the rest is then looked at with all defaults. */
async function usualConfig(wished: string | undefined): Promise<{ config: Config; findings: Finding[] }> {
  const about = { area: 'agent', name: 'configuration', need: 'recommended', purpose: "the agent's settings" } as const;
  const usual = async (): Promise<string | undefined> => {
    const { configFile } = (await installedService('/')) ?? {};
    return configFile ?? ((await readIfThere(DEFAULT_CONFIG_FILE)) === undefined ? undefined : DEFAULT_CONFIG_FILE);
  };
  try {
    const file = wished ?? (await usual());
    return { config: await readConfig(file), findings: [{ ...about, state: 'ok', detail: file ?? 'of defaults only' }] };
  } catch (thrown) {
    const { message, hint } = toClawError(thrown);
    return { config: await readConfig(undefined), findings: [{ ...about, state: 'warning', detail: message, ...(hint === undefined ? {} : { fix: hint }) }] };
  }
}

function home(): string | undefined {
  try {
    const found = homedir();
    return found === '' ? undefined : found;
  } catch {
    // A uid that no entry knows, and no HOME.
    return undefined;
  }
}

/** The folder that this was started in, unless somebody has removed it. */
function folder(): string {
  try {
    return cwd();
  } catch {
    return '/';
  }
}
