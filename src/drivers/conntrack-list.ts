/** Reads which UDP flows the kernel translates and which TCP connections it tracks; it changes nothing. */
import { readFile } from 'node:fs/promises';
import type { TrackedConnection } from '../compile/forbidden-flows.ts';
import { CUT_MARK } from '../compile/netpol.ts';
import type { TcpConnection } from '../compile/tcp-flows.ts';
import { udpFlowKey, type UdpFlow, type UdpFlows } from '../compile/udp-flows.ts';
import { contains, ipv4, type Cidr, type Ipv4 } from '../model/address.ts';
import { run } from './exec.ts';

/** The UDP entries whose original destination lies in the range: what they were sent to, and who answers. */
export async function readTranslatedUdp(range: Cidr, signal?: AbortSignal): Promise<UdpFlows> {
  const { stdout } = await run(['conntrack', '-L', '-p', 'udp'], signal === undefined ? {} : { signal });
  return translatedIn(stdout, range);
}

/** Each line holds two tuples, of the original direction and of the replies: `... dst=VIP sport=P dport=53 src=ENDPOINT dst=A sport=5300 dport=P ...`. */
export function translatedIn(listing: string, range: Cidr): UdpFlows {
  const flows = new Map<string, UdpFlow>();
  for (const line of listing.split('\n')) {
    const [destination] = addresses(line, 'dst');
    const [, answering] = addresses(line, 'src');
    if (destination === undefined || answering === undefined || !contains(range, destination) || contains(range, answering)) continue;
    const [servicePort = 0] = ports(line, 'dport');
    const [, endpointPort = 0] = ports(line, 'sport');
    const flow = { clusterIp: destination, servicePort, endpointIp: answering, endpointPort };
    flows.set(udpFlowKey(flow), flow);
  }
  return flows;
}

/** Everything that the kernel tracks in this network namespace. */
export async function readConnections(signal?: AbortSignal): Promise<TrackedConnection[]> {
  return connectionsIn((await readTable()) ?? (await run(['conntrack', '-L'], signal === undefined ? {} : { signal })).stdout);
}

/** Most kernels show the table as a file, which spares a process; a user namespace may not read it. */
async function readTable(): Promise<string | undefined> {
  try {
    return await readFile('/proc/net/nf_conntrack', 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'EACCES')) return undefined;
    throw error;
  }
}

/** As in `translatedIn`; before the tuples stand name and number of the protocol, seconds left and, with some, a state. */
export function connectionsIn(listing: string): TrackedConnection[] {
  return [...listing.matchAll(ANY_LINE)].flatMap(([, protocol = '', state, original = '', reply = '']) => {
    const [from, to, answering] = [addressIn(original, 'src'), addressIn(original, 'dst'), addressIn(reply, 'src')];
    if (from === undefined || to === undefined || answering === undefined) return [];
    const [dialledPort, endpointPort] = [portIn(original, 'dport'), portIn(reply, 'sport')];
    return [{ protocol, state, client: from, dialled: { ip: to, port: dialledPort }, endpoint: { ip: answering, port: endpointPort }, ...(isMarked(reply) ? { marked: true } : {}) }];
  });
}

/** The second `src=` begins the tuple of the replies; ICMP has its type and code there instead of ports. */
const ANY_LINE = /^(?:ipv4 +2 +)?(\w+) +\d+ +\d+ (?:([A-Z_]+) )?(src=.*?)(?= (?:\[UNREPLIED\] )?src=)(.*)$/gm;

function isMarked(line: string): boolean {
  return (Number(/ mark=(\d+)/.exec(line)?.[1] ?? 0) & Number(CUT_MARK.split('/')[0])) !== 0;
}

function addressIn(tuple: string, name: 'src' | 'dst'): Ipv4 | undefined {
  return addresses(tuple, name)[0];
}

function portIn(tuple: string, name: 'sport' | 'dport'): number {
  return ports(tuple, name)[0] ?? 0;
}

/** All TCP connections that the kernel tracks in this network namespace. */
export async function readTcpConnections(signal?: AbortSignal): Promise<TcpConnection[]> {
  const { stdout } = await run(['conntrack', '-L', '-p', 'tcp'], signal === undefined ? {} : { signal });
  return tcpConnectionsIn(stdout);
}

/** As in `translatedIn`, with the state before the two tuples: `tcp 6 431999 ESTABLISHED src=...`. */
export function tcpConnectionsIn(listing: string): TcpConnection[] {
  return [...listing.matchAll(TCP_LINE)].map(([, state = '', from = '', to = '', fromPort, toPort, source = '', seen = '', sourcePort, seenPort]) => ({
    state,
    client: { ip: from, port: Number(fromPort) },
    dialled: { ip: to, port: Number(toPort) },
    endpoint: { ip: source, port: Number(sourcePort) },
    clientSeen: { ip: seen, port: Number(seenPort) },
  }));
}

/** Between the tuples, and after them, stand counters where the kernel keeps them. */
const TCP_LINE = /^tcp +6 +\d+ ([A-Z_]+) src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+) .*?src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)/gm;

function addresses(line: string, name: 'src' | 'dst'): Ipv4[] {
  return [...line.matchAll(new RegExp(`\\b${name}=(\\S+)`, 'g'))].flatMap(([, value]) => ipv4.safeParse(value).data ?? []);
}

function ports(line: string, name: 'sport' | 'dport'): number[] {
  return [...line.matchAll(new RegExp(`\\b${name}=(\\d+)`, 'g'))].map(([, value]) => Number(value));
}
