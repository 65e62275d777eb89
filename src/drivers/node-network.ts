/** Gives the node its gateway address and the routes of the VIP range and the workload subnet; it knows no single workload. */
import { readFile, writeFile } from 'node:fs/promises';
import type { NodeNetwork } from '../compile/kernel-state.ts';
import { ipBatch, OWN_PROTOCOL, readIpState, type IpRoute, type IpState } from './ip-command.ts';

export interface NodeNetworkDriver {
  /** Makes the kernel match; `written` counts what was changed. Throws ClawError `KERNEL_REFUSED`, `PROCESS_FAILED` or `MISSING_BINARY`. */
  apply(desired: NodeNetwork, signal?: AbortSignal): Promise<{ readonly written: number }>;
  /** Removes our address and every route of ours; forwarding is left as it is. */
  removeAll(signal?: AbortSignal): Promise<{ readonly written: number }>;
}

/** Marks the address on `lo` as ours. */
export const OWN_ADDRESS_LABEL = 'lo:claw';

const FORWARDING = '/proc/sys/net/ipv4/ip_forward';

export function openNodeNetwork(): NodeNetworkDriver {
  return {
    async apply(desired, signal) {
      const forwarding = await enableForwarding();
      const lines = diffNodeNetwork(await readIpState({ signal }), desired);
      await ipBatch(lines, { signal });
      return { written: lines.length + forwarding };
    },
    async removeAll(signal) {
      const state = await readIpState({ signal });
      const lines = [...ownRoutes(state).map((route) => `route del ${routeText(route)}`), ...ownAddresses(state).map(deleteAddress)];
      await ipBatch(lines, { signal });
      return { written: lines.length };
    },
  };
}

async function enableForwarding(): Promise<number> {
  if (await isForwarding()) return 0;
  await writeFile(FORWARDING, '1');
  return 1;
}

/** Whether the machine forwards packets between its interfaces. */
export async function isForwarding(): Promise<boolean> {
  return (await readFile(FORWARDING, 'utf8')).trim() === '1';
}

export async function turnForwardingOff(): Promise<void> {
  await writeFile(FORWARDING, '0');
}

/** What is missing comes before what is surplus, so that VIPs stay reachable when the ranges stay the same. */
function diffNodeNetwork(state: IpState, { gateway, clusterIpRange, subnet }: NodeNetwork): string[] {
  const held = ownRoutes(state);
  const wanted = [
    // With a local route a connection to a VIP that was not translated ends on this node, where it is rejected.
    { type: 'local', dst: clusterIpRange, source: gateway },
    // An address of the subnet that no workload has answers at once and never leaves by the default route.
    { type: 'unreachable', dst: subnet, source: undefined },
  ];
  const lo = state.interfaces.find(({ name }) => name === 'lo');
  const addresses = ownAddresses(state);
  return [
    ...(lo?.flags.includes('UP') === true ? [] : ['link set lo up']),
    // The source address of the local route has to exist before the first workload does, and after the last.
    ...(addresses.includes(gateway) ? [] : [`addr add ${gateway}/32 dev lo label ${OWN_ADDRESS_LABEL}`]),
    ...wanted
      .filter(({ type, dst, source }) => !held.some((route) => route.type === type && sameRange(route.dst, dst) && route.prefsrc === source))
      .map(({ type, dst, source }) => `route replace ${type} ${dst}${source === undefined ? '' : ` dev lo src ${source}`} proto ${OWN_PROTOCOL}`),
    ...held
      .filter((route) => !wanted.some(({ type, dst }) => route.type === type && sameRange(route.dst, dst)))
      .map((route) => `route del ${routeText(route)}`),
    ...addresses.filter((address) => address !== gateway).map(deleteAddress),
  ];
}

/** Routes of ours but those to a workload, which belong to its interface and go with it. */
function ownRoutes({ routes }: IpState): IpRoute[] {
  return routes.filter(({ protocol, type }) => protocol === OWN_PROTOCOL && (type === 'local' || type === 'unreachable'));
}

function ownAddresses({ interfaces }: IpState): string[] {
  return interfaces.flatMap(({ addresses }) => addresses.filter(({ label }) => label === OWN_ADDRESS_LABEL).map(({ local }) => local));
}

/** iproute2 leaves out the prefix length of a single address. */
function sameRange(printed: string, range: string): boolean {
  return printed === range || `${printed}/32` === range;
}

function routeText({ type, dst }: IpRoute): string {
  return `${type} ${dst} proto ${OWN_PROTOCOL}${type === 'local' ? ' table local' : ''}`;
}

function deleteAddress(address: string): string {
  return `addr del ${address}/32 dev lo`;
}
