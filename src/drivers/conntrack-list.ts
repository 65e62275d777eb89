/** Reads which UDP flows the kernel still translates; it changes nothing. */
import type { UdpFlows } from '../compile/udp-flows.ts';
import { contains, ipv4, type Cidr, type Ipv4 } from '../model/address.ts';
import { run } from './exec.ts';

/** The UDP entries whose original destination lies in the range: what they were sent to, and who answers. */
export async function readTranslatedUdp(range: Cidr, signal?: AbortSignal): Promise<UdpFlows> {
  const { stdout } = await run(['conntrack', '-L', '-p', 'udp'], signal === undefined ? {} : { signal });
  return translatedIn(stdout, range);
}

/** Each line holds two tuples, of the original direction and of the replies: `... src=A dst=VIP ... src=ENDPOINT dst=A ...`. */
export function translatedIn(listing: string, range: Cidr): UdpFlows {
  const flows = new Map<string, { clusterIp: Ipv4; endpointIp: Ipv4 }>();
  for (const line of listing.split('\n')) {
    const [destination] = addresses(line, 'dst');
    const [, answering] = addresses(line, 'src');
    if (destination === undefined || answering === undefined || !contains(range, destination) || contains(range, answering)) continue;
    flows.set(`${destination} ${answering}`, { clusterIp: destination, endpointIp: answering });
  }
  return flows;
}

function addresses(line: string, name: 'src' | 'dst'): Ipv4[] {
  return [...line.matchAll(new RegExp(`\\b${name}=(\\S+)`, 'g'))].flatMap(([, value]) => ipv4.safeParse(value).data ?? []);
}
