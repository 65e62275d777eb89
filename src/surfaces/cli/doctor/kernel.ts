/** What the kernel can do, tried in namespaces of their own; it changes nothing of the machine's. */
import { readFile } from 'node:fs/promises';
import { release } from 'node:os';
import { geteuid } from 'node:process';
import { openConntrack } from '../../../drivers/conntrack.ts';
import { run } from '../../../drivers/exec.ts';
import { toClawError } from '../../../errors.ts';
import { isNearlyFull } from '../../../model/conntrack.ts';
import { sandboxObstacle } from '../../../sandbox/availability.ts';
import type { Finding } from './finding.ts';

export async function inspectKernel(signal: AbortSignal): Promise<Finding[]> {
  const checks = [namespaces(signal), ...TRIALS.map((trial) => netfilter(trial, signal)), conntrackTable(), forwarding()];
  return [{ area: 'kernel', name: 'Linux', need: 'required', state: 'ok', detail: release(), purpose: 'enforces everything' }, ...(await Promise.all(checks))];
}

async function namespaces(signal: AbortSignal): Promise<Finding> {
  const finding = { area: 'kernel', name: 'user namespaces', need: 'recommended', purpose: 'sandboxes' } as const;
  const obstacle = await sandboxObstacle(signal);
  if (obstacle === undefined) return { ...finding, state: 'ok', detail: 'usable' };
  return { ...finding, state: 'missing', detail: obstacle.message, ...(obstacle.hint === undefined ? {} : { fix: obstacle.hint }) };
}

interface Trial {
  readonly script: string;
  readonly name: string;
  readonly need: Finding['need'];
  readonly purpose: string;
}

// A kernel may be built without any of it.
const TRIALS: readonly Trial[] = [
  {
    name: 'netfilter',
    need: 'required',
    purpose: 'NAT, sets and virtual interfaces',
    script: `
iptables -t nat -A OUTPUT -m statistic --mode random --probability 0.5 -j RETURN
iptables -t nat -A POSTROUTING -j MASQUERADE
ipset create trial hash:net,iface
iptables -A FORWARD -m conntrack --ctstate ESTABLISHED -m set ! --match-set trial dst,dst -j REJECT
ip link add trial0 type veth peer name trial1
`,
  },
  { name: 'NFLOG', need: 'recommended', purpose: 'tells which connections policies deny', script: '\niptables -A FORWARD -j NFLOG --nflog-group 1\n' },
];

/** Tries what rules are made of, in namespaces that end with the try. */
async function netfilter({ script, ...about }: Trial, signal: AbortSignal): Promise<Finding> {
  const finding = { area: 'kernel', ...about } as const;
  // As root without a user namespace, which may be forbidden where nothing else is.
  const user = geteuid?.() === 0 ? [] : ['--user', '--map-root-user'];
  try {
    await run(['unshare', ...user, '--net', '--mount', 'sh', '-ec', `mount -t tmpfs tmpfs /run${script}`], { signal });
    return { ...finding, state: 'ok', detail: 'usable' };
  } catch (thrown) {
    signal.throwIfAborted();
    const reason = toClawError(thrown).message.split(': ').at(-1) ?? '';
    return { ...finding, state: 'warning', detail: `could not be tried: ${reason}`, fix: 'Install what is missing below first; a kernel that lacks it needs another build or its modules package (linux-modules-extra).' };
  }
}

/** A full table drops new connections and says so only in the kernel's log. */
async function conntrackTable(): Promise<Finding> {
  const finding = { area: 'kernel', name: 'connections', need: 'recommended', purpose: 'room in the connection tracking table' } as const;
  const size = await openConntrack().size();
  if (size === undefined) return { ...finding, state: 'ok', detail: 'none tracked yet' };
  const { entries, maximum } = size;
  const detail = `${entries} of ${maximum} tracked`;
  if (!isNearlyFull(size)) return { ...finding, state: 'ok', detail };
  return { ...finding, state: 'warning', detail: `${detail}, new ones are dropped when it is full`, fix: `sudo sysctl net.netfilter.nf_conntrack_max=${2 * maximum}` };
}

/** Off is no fault: the agent turns it on, and `cleanup` off again. */
async function forwarding(): Promise<Finding> {
  const finding = { area: 'kernel', name: 'forwarding', need: 'recommended', purpose: 'packets between workloads' } as const;
  const value = await readFile('/proc/sys/net/ipv4/ip_forward', 'utf8').catch(() => undefined);
  if (value === undefined) return { ...finding, state: 'warning', detail: 'net.ipv4.ip_forward can not be read' };
  return { ...finding, state: 'ok', detail: value.trim() === '1' ? 'on' : 'off, the agent turns it on' };
}
