/** Removes everything of ours from a machine whose agent is stopped: processes, containers, rules, sets, links, routes. The store stays. */
import { readdir } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { openIpset } from './drivers/ipset.ts';
import { openLinks } from './drivers/link.ts';
import { openNodeNetwork } from './drivers/node-network.ts';
import { ClawError } from './errors.ts';
import { removeFromBackends } from './iptables-choice.ts';
import { restoreForwarding } from './node-identity.ts';
import { stopConfinedProxy } from './runtime/confined-proxy.ts';
import { removeContainers } from './runtime/docker-cleanup.ts';
import { openProcessRuntime } from './runtime/process.ts';
import { KERNEL_LOCK_DIRECTORY, takeKernel, takeStateDirectory } from './state-directory.ts';
import { answers } from './surfaces/agent-socket.ts';

export interface CleanupOptions {
  readonly stateDir: string;
  readonly socketPath: string;
}

/** How much was removed of each kind. */
export interface CleanupReport {
  readonly workloads: number;
  readonly interfaces: number;
  readonly networkNamespaces: number;
  readonly ruleLines: number;
  readonly ipsets: number;
  readonly addressesAndRoutes: number;
  /** Forwarding was off before the first agent came, and is off again. */
  readonly forwardingTurnedOff: boolean;
}

const STOP_GRACE_MS = 5000;

/** Throws AGENT_ALREADY_RUNNING while an agent lives: it would put everything back. May be called on a clean machine. */
export async function cleanup({ stateDir, socketPath }: CleanupOptions, signal: AbortSignal): Promise<CleanupReport> {
  if (await answers(socketPath)) {
    throw new ClawError('AGENT_ALREADY_RUNNING', `an agent answers on ${socketPath}, and it would put everything back`, {
      hint: 'Stop it first: Ctrl-C where `clawnode up` runs, or SIGTERM to it.',
    });
  }
  // One that has another socket is found here.
  const kernel = await takeKernel();
  try {
    return await removeEverything({ stateDir: resolve(stateDir), socketPath: resolve(socketPath) }, signal);
  } finally {
    kernel.release();
  }
}

async function removeEverything({ stateDir, socketPath }: CleanupOptions, signal: AbortSignal): Promise<CleanupReport> {
  const directory = await takeStateDirectory(stateDir);
  try {
    const workloads = await stopWorkloads(directory.workloads, { hide: [stateDir, dirname(socketPath), KERNEL_LOCK_DIRECTORY], signal });
    await stopConfinedProxy(directory.proxy, { graceMs: STOP_GRACE_MS }, signal);
    const links = openLinks();
    const { interfaces, netns } = await links.list();
    const ids = new Set([...interfaces.map((name) => name.replace(/^clawv/, '')), ...netns.map((name) => name.replace(/^claw-/, ''))]);
    const failures: unknown[] = [];
    const containers = await removeContainers(directory.docker, signal).catch((error: unknown) => {
      failures.push(error);
      return 0;
    });
    for (const id of ids) await links.remove({ hostInterface: `clawv${id}`, netns: `claw-${id}` }, signal).catch((error: unknown) => failures.push(error));
    const ruleLines = await removeFromBackends(signal);
    // Sets after rules: the kernel keeps a set that a rule refers to.
    const { written: ipsets } = await openIpset().removeAll(signal);
    const { written: addressesAndRoutes } = await openNodeNetwork().removeAll(signal);
    const forwardingTurnedOff = await restoreForwarding(directory.identity);
    const [stuck] = failures;
    // Everything else is gone by now.
    if (stuck !== undefined) throw stuck;
    return { workloads: workloads + containers, interfaces: interfaces.length, networkNamespaces: netns.length, ruleLines, ipsets, addressesAndRoutes, forwardingTurnedOff };
  } finally {
    directory.release();
  }
}

async function stopWorkloads(directory: string, { hide, signal }: { hide: readonly string[]; signal: AbortSignal }): Promise<number> {
  const runtime = await openProcessRuntime({ directory, hide });
  try {
    const held = await readdir(directory);
    await runtime.adopt([], signal);
    return held.length;
  } finally {
    await runtime.close();
  }
}
