/** Runs the `ip` command with many lines in one process and reads its JSON; it never decides what to change. */
import { z } from 'zod';
import { ClawError } from '../errors.ts';
import { run, type Argv } from './exec.ts';

/** The routing protocol number that marks routes as ours. */
export const OWN_PROTOCOL = '201';

export interface IpOptions {
  /** The name of a network namespace below /run/netns; this one unless told. */
  readonly netns?: string;
  readonly signal?: AbortSignal | undefined;
}

/** Runs the lines one after the other and stops at the first that fails. Throws ClawError `KERNEL_REFUSED` with that line. */
export async function ipBatch(lines: readonly string[], { netns, signal }: IpOptions = {}): Promise<void> {
  if (lines.length === 0) return;
  const argv: Argv = ['ip', ...(netns === undefined ? [] : ['-n', netns]), '-batch', '-'];
  const { exitCode, stderr } = await run(argv, { input: `${lines.join('\n')}\n`, okExitCodes: [0, 1], ...(signal === undefined ? {} : { signal }) });
  if (exitCode === 0) return;
  const failed = /Command failed -:(\d+)/.exec(stderr)?.[1];
  const line = failed === undefined ? lines.join('; ') : lines[Number(failed) - 1];
  throw new ClawError('KERNEL_REFUSED', `ip ${line ?? ''}${netns === undefined ? '' : ` in ${netns}`}: ${stderr.trim().split('\n', 1)[0] ?? ''}`);
}

export interface IpInterface {
  readonly name: string;
  readonly flags: readonly string[];
  readonly mtu: number;
  readonly mac: string | undefined;
  /** IPv4 only. */
  readonly addresses: readonly IpAddress[];
}

const address = z.object({ local: z.string(), prefixlen: z.number(), label: z.string().optional() });
type IpAddress = z.infer<typeof address>;

const link = z.object({ ifname: z.string(), flags: z.array(z.string()), mtu: z.number(), address: z.string().optional() });
// iproute2 prints `{}` for an interface that the filter left out.
const withAddresses = z.object({ ifname: z.string().optional(), addr_info: z.array(address).default([]) });
const route = z.object({
  type: z.string(),
  dst: z.string(),
  /** Absent when the device was asked for, and for routes that lead nowhere. */
  dev: z.string().optional(),
  gateway: z.string().optional(),
  protocol: z.string().optional(),
  prefsrc: z.string().optional(),
});
export type IpRoute = z.infer<typeof route>;

export interface IpState {
  readonly interfaces: readonly IpInterface[];
  /** Of all tables. A single address has no prefix length in `dst`; the default route is called `default`. */
  readonly routes: readonly IpRoute[];
}

const printed = z.tuple([z.array(withAddresses), z.array(route), z.array(link)]);

export interface ReadOptions extends IpOptions {
  /** The only interface that is asked for; all unless told. It must exist. */
  readonly device?: string;
}

/** Interfaces with their IPv4 addresses, and the IPv4 routes of all tables, read by one process. */
export async function readIpState({ netns, device, signal }: ReadOptions = {}): Promise<IpState> {
  const argv: Argv = ['ip', '-4', '-json', '-details', ...(netns === undefined ? [] : ['-n', netns]), '-batch', '-'];
  const filter = device === undefined ? '' : ` dev ${device}`;
  // Links last: after `link show dev` iproute2 6.1 leaves the addresses out of `addr show dev` in the same batch.
  const input = `addr show${filter}\nroute show table all${filter}\nlink show${filter}\n`;
  const { stdout } = await run(argv, { input, ...(signal === undefined ? {} : { signal }) });
  const [addresses, routes, links] = printed.parse(parseDocuments(stdout));
  const addressesOf = new Map(addresses.map((entry) => [entry.ifname, entry.addr_info]));
  return {
    interfaces: links.map((entry) => ({
      name: entry.ifname,
      flags: entry.flags,
      mtu: entry.mtu,
      mac: entry.address,
      addresses: addressesOf.get(entry.ifname) ?? [],
    })),
    routes,
  };
}

/** Each line of a batch prints a document of its own, on a line of its own. */
function parseDocuments(text: string): unknown[] {
  return text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line): unknown => JSON.parse(line));
}
