/** Makes, repairs and removes the veth pair of each workload, and its network namespace where that is ours; it never starts a process of the workload. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import type { WorkloadLink } from '../compile/kernel-state.ts';
import { ClawError } from '../errors.ts';
import { ProcessError, run } from './exec.ts';
import { ipBatch, OWN_PROTOCOL, readIpState, type IpState, type ReadOptions } from './ip-command.ts';

export interface LinkDriver {
  /**
   * Makes the link, or repairs what is missing of it; `written` counts what was changed. A namespace that exists is kept, for the
   * workload's processes live in it. Throws ClawError `KERNEL_REFUSED`, `PROCESS_FAILED` or `MISSING_BINARY`.
   */
  ensure(link: WorkloadLink, signal?: AbortSignal): Promise<{ readonly written: number }>;
  /** Removes interface and namespace, as far as they exist; of a namespace that others made only the name that we gave it. */
  remove(link: Pick<WorkloadLink, 'hostInterface' | 'netns'>, signal?: AbortSignal): Promise<void>;
  /** What exists of ours, half-made links included. */
  list(): Promise<{ readonly interfaces: readonly string[]; readonly netns: readonly string[] }>;
}

/** Interfaces and namespaces of these names only are ours: an operator may well have a `claw-test` or a `clawvpn`. */
const OWN_INTERFACE = /^clawv[0-9a-f]{8}$/;
const OWN_NETNS = /^claw-[0-9a-f]{8}$/;

export const NETNS_FOLDER = '/run/netns';
/** Lists the interfaces of the network namespace that the reader is in, whichever sysfs is mounted. */
const INTERFACES_FOLDER = '/proc/sys/net/ipv4/conf';

export function openLinks(): LinkDriver {
  return { ensure, remove, list: ownNamespaces };
}

async function ensure(link: WorkloadLink, signal?: AbortSignal): Promise<{ written: number }> {
  const names = await ownNamespaces();
  const [inside, outside] = await Promise.all([
    names.netns.includes(link.netns) ? readUnlessGone({ netns: link.netns, signal }) : undefined,
    names.interfaces.includes(link.hostInterface) ? readUnlessGone({ device: link.hostInterface, signal }) : undefined,
  ]);
  // An interface whose other end is not in the namespace leads nowhere.
  const connected = outside !== undefined && inside?.interfaces.some(({ name }) => name === link.peer) === true;
  if (!connected) {
    const namesNothing = inside === undefined && names.netns.includes(link.netns);
    await removeExisting({ interfaces: outside === undefined ? [] : [link.hostInterface], netns: namesNothing ? [link.netns] : [] }, signal);
    if (inside === undefined && link.owner !== 'own') throw new ClawError('KERNEL_REFUSED', `the network namespace ${link.netns} is gone`);
    await ipBatch([...(inside === undefined ? [`netns add ${link.netns}`] : []), pairOf(link)], { signal });
  }
  // Both ends come up only when they are without IPv6: one that came up with it would have a link-local address, over which
  // workloads could meet unseen.
  const hardened = connected && isUp(inside, link.peer);
  const [ipv6] = await Promise.all([disableIpv6(link.hostInterface), hardened ? undefined : harden(link, signal)]);
  const outsideLines = diffOutside(connected ? outside : NOTHING, link);
  // What a foreign namespace holds beside our interface decides which routes it gets.
  const insideLines = diffInside(connected || link.owner === 'foreign' ? (inside ?? NOTHING) : NOTHING, link);
  await Promise.all([ipBatch(insideLines, { netns: link.netns, signal }), ipBatch(outsideLines, { signal })]);
  return { written: (connected ? 0 : 1) + ipv6 + insideLines.length + outsideLines.length };
}

async function remove({ hostInterface, netns }: Pick<WorkloadLink, 'hostInterface' | 'netns'>, signal?: AbortSignal): Promise<void> {
  const held = await ownNamespaces();
  await removeExisting({ interfaces: held.interfaces.filter((name) => name === hostInterface), netns: held.netns.filter((name) => name === netns) }, signal);
}

async function removeExisting(names: { interfaces: readonly string[]; netns: readonly string[] }, signal: AbortSignal | undefined): Promise<void> {
  const deletions = (held: typeof names): string[] => [
    // The interface first: with the namespace alone it would go only when its last process has ended.
    ...held.interfaces.filter((name) => names.interfaces.includes(name)).map((name) => `link del ${name}`),
    ...held.netns.filter((name) => names.netns.includes(name)).map((name) => `netns del ${name}`),
  ];
  try {
    await ipBatch(deletions(names), { signal });
  } catch {
    // A namespace that is going takes its interfaces with it, some time after its name is gone: whatever is left is deleted now.
    await ipBatch(deletions(await ownNamespaces()), { signal });
  }
}

/** Interfaces and namespaces with a name of ours. */
export async function ownNamespaces(): Promise<{ interfaces: string[]; netns: string[] }> {
  const [interfaces, netns] = await Promise.all([readdir(INTERFACES_FOLDER), namesOfNamespaces()]);
  return {
    interfaces: interfaces.filter((name) => OWN_INTERFACE.test(name)),
    netns: netns.filter((name) => OWN_NETNS.test(name)),
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

/** Undefined when the namespace's name stands for none, as after a crash before it was mounted, or when the interface went meanwhile. */
async function readUnlessGone(options: ReadOptions): Promise<IpState | undefined> {
  try {
    return await readIpState(options);
  } catch (error) {
    if (error instanceof ProcessError && /setting the network namespace|does not exist/.test(error.stderr)) return undefined;
    throw error;
  }
}

/**
 * No IPv6 and no ICMP redirects, for the interface, for all, and for those that others may add; and every port may be listened on,
 * because a workload has no capabilities and 80 and 53 of an address of its own are nobody else's. In a foreign namespace only what
 * concerns our interface.
 */
async function harden({ netns, peer, owner }: WorkloadLink, signal: AbortSignal | undefined): Promise<void> {
  const names = owner === 'foreign' ? [peer] : ['all', 'default', peer];
  const set = async (value: string, paths: readonly string[]): Promise<void> => {
    // The files of /proc/sys/net belong to the namespace of the process that opens them.
    const options = { input: value, ...(signal === undefined ? {} : { signal }) };
    await run(['nsenter', `--net=${NETNS_FOLDER}/${netns}`, 'tee', ...paths.map((path) => `/proc/sys/net/${path}`)], options);
  };
  await Promise.all([
    set('1', names.map((name) => `ipv6/conf/${name}/disable_ipv6`)),
    set('0', [...(owner === 'foreign' ? [] : ['ipv4/ip_unprivileged_port_start']), ...names.map((name) => `ipv4/conf/${name}/accept_redirects`)]),
  ]);
}

function pairOf({ hostInterface, hostMac, mac, mtu, netns, peer }: WorkloadLink): string {
  return `link add ${hostInterface} address ${hostMac} mtu ${mtu} type veth peer name ${peer} address ${mac} mtu ${mtu} netns ${netns}`;
}

async function disableIpv6(hostInterface: string): Promise<number> {
  const path = `/proc/sys/net/ipv6/conf/${hostInterface}/disable_ipv6`;
  if ((await readFile(path, 'utf8')).trim() === '1') return 0;
  await writeFile(path, '1');
  return 1;
}

/** `state` is what was read of this one interface. */
function diffOutside(state: IpState, { hostInterface, gateway, ip, mtu }: WorkloadLink): string[] {
  const held = state.interfaces.find(({ name }) => name === hostInterface);
  const routed = state.routes.some(({ dst, protocol }) => dst === ip && protocol === OWN_PROTOCOL);
  return [
    ...(held === undefined || held.mtu === mtu ? [] : [`link set ${hostInterface} mtu ${mtu}`]),
    ...(held?.addresses.some(({ local }) => local === gateway) === true ? [] : [`addr add ${gateway}/32 dev ${hostInterface}`]),
    ...(isUp(state, hostInterface) ? [] : [`link set ${hostInterface} up`]),
    ...(routed ? [] : [`route replace ${ip}/32 dev ${hostInterface} src ${gateway} proto ${OWN_PROTOCOL}`]),
  ];
}

function diffInside(state: IpState, link: WorkloadLink): string[] {
  const { gateway, ip, prefix, mtu, peer } = link;
  const held = state.interfaces.find(({ name }) => name === peer);
  return [
    ...(isUp(state, 'lo') || link.owner === 'foreign' ? [] : ['link set lo up']),
    ...(held === undefined || held.mtu === mtu ? [] : [`link set ${peer} mtu ${mtu}`]),
    // Without a route of the prefix all neighbours are reached through the gateway, which is where policy is.
    ...(held?.addresses.some(({ local }) => local === ip) === true ? [] : [`addr add ${ip}/${prefix} dev ${peer} noprefixroute`]),
    ...(isUp(state, peer) ? [] : [`link set ${peer} up`]),
    ...(state.routes.some(({ dst, dev }) => dst === gateway && dev === peer) ? [] : [`route replace ${gateway}/32 dev ${peer} scope link`]),
    ...destinations(state, link)
      .filter((destination) => !state.routes.some(({ dst, gateway: via }) => dst === destination && via === gateway))
      // The source must be told: a foreign namespace may prefer an address of another interface.
      .map((destination) => `route replace ${destination} via ${gateway} dev ${peer}${link.owner === 'foreign' ? ` src ${ip}` : ''}`),
  ];
}

/** A default route of somebody else's stays the default route. */
function destinations({ routes }: IpState, { owner, peer, ranges }: WorkloadLink): readonly string[] {
  const foreign = owner === 'foreign' && routes.some(({ dst, dev }) => dst === 'default' && dev !== peer);
  return foreign ? ranges : ['default'];
}

function isUp({ interfaces }: IpState, device: string): boolean {
  return interfaces.some(({ name, flags }) => name === device && flags.includes('UP'));
}
