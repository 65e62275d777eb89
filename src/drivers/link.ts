/** Makes, repairs and removes the veth pair and network namespace of each workload; it never starts a process of the workload. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import type { WorkloadLink } from '../compile/kernel-state.ts';
import { WORKLOAD_INTERFACE_PREFIX } from '../model/node.ts';
import { ProcessError, run } from './exec.ts';
import { ipBatch, OWN_PROTOCOL, readIpState, type IpState } from './ip-command.ts';

export interface LinkDriver {
  /**
   * Makes the link, or repairs what is missing of it; `written` counts what was changed. A namespace that exists is kept, for the
   * workload's processes live in it. Throws ClawError `KERNEL_REFUSED`, `PROCESS_FAILED` or `MISSING_BINARY`.
   */
  ensure(link: WorkloadLink, signal?: AbortSignal): Promise<{ readonly written: number }>;
  /** Removes interface and namespace, as far as they exist. */
  remove(link: Pick<WorkloadLink, 'hostInterface' | 'netns'>, signal?: AbortSignal): Promise<void>;
  /** What exists of ours, half-made links included. */
  list(): Promise<{ readonly interfaces: readonly string[]; readonly netns: readonly string[] }>;
}

export const OWN_NETNS_PREFIX = 'claw-';

const NETNS_FOLDER = '/run/netns';
/** Lists the interfaces of the network namespace that the reader is in, whichever sysfs is mounted. */
const INTERFACES_FOLDER = '/proc/sys/net/ipv4/conf';
const PEER = 'eth0';

export function openLinks(): LinkDriver {
  return { ensure, remove, list };
}

async function ensure(link: WorkloadLink, signal?: AbortSignal): Promise<{ written: number }> {
  const names = await list();
  const inside = names.netns.includes(link.netns) ? await readInside(link.netns, signal) : undefined;
  // An interface whose other end is not in the namespace leads nowhere.
  const connected = names.interfaces.includes(link.hostInterface) && inside?.interfaces.some(({ name }) => name === PEER) === true;
  if (!connected) {
    if (names.interfaces.includes(link.hostInterface)) await removeInterface(link.hostInterface, signal);
    if (inside === undefined && names.netns.includes(link.netns)) await ipBatch([`netns del ${link.netns}`], { signal });
    if (inside === undefined) await ipBatch([`netns add ${link.netns}`], { signal });
    await harden(link.netns, signal);
    await ipBatch([pairOf(link)], { signal });
  }
  const ipv6 = await disableIpv6(link.hostInterface);
  const outsideLines = diffOutside(connected ? await readIpState({ signal }) : NOTHING, link);
  const insideLines = diffInside(connected && inside !== undefined ? inside : NOTHING, link);
  await ipBatch(insideLines, { netns: link.netns, signal });
  await ipBatch(outsideLines, { signal });
  return { written: (connected ? 0 : 1) + ipv6 + insideLines.length + outsideLines.length };
}

async function remove({ hostInterface, netns }: Pick<WorkloadLink, 'hostInterface' | 'netns'>, signal?: AbortSignal): Promise<void> {
  const held = await list();
  // The interface first: with the namespace alone it would go only when its last process has ended.
  if (held.interfaces.includes(hostInterface)) await removeInterface(hostInterface, signal);
  if (held.netns.includes(netns)) await ipBatch([`netns del ${netns}`], { signal });
}

async function removeInterface(name: string, signal: AbortSignal | undefined): Promise<void> {
  try {
    await ipBatch([`link del ${name}`], { signal });
  } catch (error) {
    // A namespace that is going takes its interfaces with it, some time after its name is gone.
    if ((await list()).interfaces.includes(name)) throw error;
  }
}

async function list(): Promise<{ interfaces: string[]; netns: string[] }> {
  const [interfaces, netns] = await Promise.all([readdir(INTERFACES_FOLDER), namesOfNamespaces()]);
  return {
    interfaces: interfaces.filter((name) => name.startsWith(WORKLOAD_INTERFACE_PREFIX)),
    netns: netns.filter((name) => name.startsWith(OWN_NETNS_PREFIX)),
  };
}

async function namesOfNamespaces(): Promise<string[]> {
  try {
    return await readdir(NETNS_FOLDER);
  } catch (error) {
    // The folder comes into being with the first namespace.
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  }
}

const NOTHING: IpState = { interfaces: [], routes: [] };

/** The state in the namespace; undefined when the name stands for none, as after a crash between making and mounting it. */
async function readInside(netns: string, signal: AbortSignal | undefined): Promise<IpState | undefined> {
  try {
    return await readIpState({ netns, signal });
  } catch (error) {
    if (error instanceof ProcessError && error.stderr.includes('setting the network namespace')) return undefined;
    throw error;
  }
}

/** Before the first interface exists, for interfaces copy these settings when they are made: no IPv6, no ICMP redirects. */
async function harden(netns: string, signal: AbortSignal | undefined): Promise<void> {
  const set = async (value: string, paths: readonly string[]): Promise<void> => {
    // The files of /proc/sys/net belong to the namespace of the process that opens them.
    const options = { input: value, ...(signal === undefined ? {} : { signal }) };
    await run(['nsenter', `--net=${NETNS_FOLDER}/${netns}`, 'tee', ...paths.map((path) => `/proc/sys/net/${path}`)], options);
  };
  await Promise.all([
    set('1', ['ipv6/conf/all/disable_ipv6', 'ipv6/conf/default/disable_ipv6']),
    set('0', ['ipv4/conf/all/accept_redirects', 'ipv4/conf/default/accept_redirects']),
  ]);
}

function pairOf({ hostInterface, hostMac, mac, mtu, netns }: WorkloadLink): string {
  return `link add ${hostInterface} address ${hostMac} mtu ${mtu} type veth peer name ${PEER} address ${mac} mtu ${mtu} netns ${netns}`;
}

/** Before the interface is up: one that comes up with IPv6 gets a link-local address, over which workloads could meet unseen. */
async function disableIpv6(hostInterface: string): Promise<number> {
  const path = `/proc/sys/net/ipv6/conf/${hostInterface}/disable_ipv6`;
  if ((await readFile(path, 'utf8')).trim() === '1') return 0;
  await writeFile(path, '1');
  return 1;
}

function diffOutside({ interfaces, routes }: IpState, { hostInterface, gateway, ip, mtu }: WorkloadLink): string[] {
  const held = interfaces.find(({ name }) => name === hostInterface);
  const routed = routes.some(({ dst, dev, protocol }) => dst === ip && dev === hostInterface && protocol === OWN_PROTOCOL);
  return [
    ...(held === undefined || held.mtu === mtu ? [] : [`link set ${hostInterface} mtu ${mtu}`]),
    ...(held?.addresses.some(({ local }) => local === gateway) === true ? [] : [`addr add ${gateway}/32 dev ${hostInterface}`]),
    ...(held?.flags.includes('UP') === true ? [] : [`link set ${hostInterface} up`]),
    ...(routed ? [] : [`route replace ${ip}/32 dev ${hostInterface} src ${gateway} proto ${OWN_PROTOCOL}`]),
  ];
}

function diffInside({ interfaces, routes }: IpState, { gateway, ip, prefix, mtu }: WorkloadLink): string[] {
  const held = interfaces.find(({ name }) => name === PEER);
  const up = (name: string): boolean => interfaces.some((entry) => entry.name === name && entry.flags.includes('UP'));
  return [
    ...(up('lo') ? [] : ['link set lo up']),
    ...(held === undefined || held.mtu === mtu ? [] : [`link set ${PEER} mtu ${mtu}`]),
    // Without a route of the prefix all neighbours are reached through the gateway, which is where policy is.
    ...(held?.addresses.some(({ local }) => local === ip) === true ? [] : [`addr add ${ip}/${prefix} dev ${PEER} noprefixroute`]),
    ...(up(PEER) ? [] : [`link set ${PEER} up`]),
    ...(routes.some(({ dst, dev }) => dst === gateway && dev === PEER) ? [] : [`route replace ${gateway}/32 dev ${PEER} scope link`]),
    ...(routes.some(({ dst, gateway: via }) => dst === 'default' && via === gateway) ? [] : [`route replace default via ${gateway} dev ${PEER}`]),
  ];
}
