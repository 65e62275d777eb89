/** What the machine's own network looks like: foreign addresses and routes, and the underlay's MTU. Reads only. */
import type { ForeignRange } from '../compile/range-overlap.ts';
import { cidr, fromNumber, toNumber, ipv4, type Cidr } from '../model/address.ts';
import { MESH_INTERFACE, WORKLOAD_INTERFACE_PREFIX } from '../model/node.ts';
import { OWN_PROTOCOL, readIpState } from './ip-command.ts';
import { listChain, type IptablesBackend } from './iptables-save.ts';
import { OWN_ADDRESS_LABEL } from './node-network.ts';

/** Of an interface without an MTU of its own, and of a machine without a default route, in bytes. */
const DEFAULT_MTU = 1500;

/** The networks of all foreign addresses, and all foreign routes but the default one. Ours are known by label, protocol or interface. */
export async function systemAddressesAndRoutes(signal?: AbortSignal): Promise<ForeignRange[]> {
  const { interfaces, routes } = await readIpState({ signal });
  const addresses = interfaces
    .filter(({ name }) => !isOurs(name))
    .flatMap(({ name, addresses: held }) =>
      held
        .filter(({ label }) => label !== OWN_ADDRESS_LABEL)
        .map(({ local, prefixlen }): ForeignRange => ({ range: networkOf(local, prefixlen), device: name, kind: 'address' })),
    );
  const ranges = routes
    // The kernel's own local and broadcast routes only repeat the addresses.
    .filter(({ protocol, dev, dst, type }) => protocol !== OWN_PROTOCOL && !isOurs(dev) && dst !== 'default' && type !== 'local' && type !== 'broadcast')
    .map(({ dst, dev }): ForeignRange => ({ range: cidr.parse(dst.includes('/') ? dst : `${dst}/32`), device: dev, kind: 'route' }));
  return [...addresses, ...ranges];
}

/** The MTU of the interface with the default route, in bytes. */
export async function underlayMtu(signal?: AbortSignal): Promise<number> {
  const { interfaces, routes } = await readIpState({ signal });
  const underlay = routes.find(({ dst }) => dst === 'default')?.dev;
  return interfaces.find(({ name }) => name === underlay)?.mtu ?? DEFAULT_MTU;
}

/** Whether an agent before this one left the chain that drops forwarding between foreign networks. */
export async function foreignForwardingIsClosed(backend: IptablesBackend, signal?: AbortSignal): Promise<boolean> {
  return (await listChain(backend, { table: 'filter', chain: 'CLAW-FOREIGN' }, signal)) !== undefined;
}

function isOurs(device: string | undefined): boolean {
  return device === MESH_INTERFACE || device?.startsWith(WORKLOAD_INTERFACE_PREFIX) === true;
}

function networkOf(address: string, prefix: number): Cidr {
  const size = 2 ** (32 - prefix);
  const value = toNumber(ipv4.parse(address));
  return cidr.parse(`${fromNumber(value - (value % size))}/${prefix}`);
}
