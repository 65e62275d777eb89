/** What the agent would meet in this machine's network: rules of others, firewalls, and ranges that are in use; it changes nothing. */
import { readFile } from 'node:fs/promises';
import { geteuid } from 'node:process';
import { findOverlap } from '../../../compile/range-overlap.ts';
import type { Config } from '../../../config.ts';
import { run } from '../../../drivers/exec.ts';
import { chooseBackend } from '../../../drivers/iptables-backend.ts';
import { systemAddressesAndRoutes } from '../../../drivers/system-network.ts';
import { toClawError } from '../../../errors.ts';
import type { Finding } from './finding.ts';

export function inspectNetwork(config: Config, signal: AbortSignal): Promise<Finding[]> {
  return Promise.all([iptablesBackend(signal), ranges(config, signal), firewalls(config.ingress.port, signal)]);
}

/** In which of the two backends an agent on this machine would keep its rules, and whether others keep theirs in both. */
async function iptablesBackend(signal: AbortSignal): Promise<Finding> {
  const finding = { area: 'network', name: 'iptables backend', need: 'recommended', purpose: 'where rules are kept' } as const;
  if (geteuid?.() !== 0) return { ...finding, state: 'ok', detail: 'nft in a sandbox; for this machine only root can tell' };
  try {
    const { backend, reason, mixed } = await chooseBackend({ configured: 'auto', sandbox: false }, signal);
    if (!mixed) return { ...finding, state: 'ok', detail: `${backend}: ${reason}` };
    return {
      ...finding,
      state: 'warning',
      detail: `${backend}: ${reason}. nft and legacy both hold rules of others, and every packet meets both`,
      fix: 'Keep them in one: compare `iptables-nft-save` and `iptables-legacy-save`.',
    };
  } catch (thrown) {
    signal.throwIfAborted();
    return { ...finding, state: 'warning', detail: toClawError(thrown).message };
  }
}

/** The same look that refuses a start. */
async function ranges({ ranges: ours }: Config, signal: AbortSignal): Promise<Finding> {
  const finding = { area: 'network', name: 'address ranges', need: 'required', purpose: 'virtual IPs and workloads' } as const;
  try {
    const overlap = findOverlap(ours, await systemAddressesAndRoutes(signal));
    if (overlap === undefined) return { ...finding, state: 'ok', detail: `${ours.clusterIp}, ${ours.workload} and ${ours.mesh} are free` };
    return {
      ...finding,
      state: 'warning',
      detail: `${overlap.name} ${overlap.range} overlaps ${overlap.culprit}: the agent would not start`,
      fix: `Set ranges.${overlap.name} in the configuration to a range that nobody uses.`,
    };
  } catch (thrown) {
    signal.throwIfAborted();
    return { ...finding, state: 'warning', detail: `addresses and routes can not be read: ${toClawError(thrown).message}` };
  }
}

/** Firewall front ends whose default is to refuse what comes from other machines. */
async function firewalls(port: number, signal: AbortSignal): Promise<Finding> {
  const finding = { area: 'network', name: 'firewall', need: 'recommended', purpose: `${port}/tcp from other machines` } as const;
  const ufw = await readFile('/etc/ufw/ufw.conf', 'utf8').catch(() => '');
  if (/^ENABLED=yes/im.test(ufw)) {
    return { ...finding, state: 'warning', detail: 'ufw is active and may keep other machines from the ingress', fix: `sudo ufw allow ${port}/tcp` };
  }
  const firewalld = await run(['firewall-cmd', '--state'], { signal }).then(() => true, () => false);
  signal.throwIfAborted();
  if (firewalld) {
    return { ...finding, state: 'warning', detail: 'firewalld is active and may keep other machines from the ingress', fix: `sudo firewall-cmd --permanent --add-port=${port}/tcp && sudo firewall-cmd --reload` };
  }
  return { ...finding, state: 'ok', detail: 'neither ufw nor firewalld is active' };
}
