/** The IPv4 addresses of this network namespace; it changes nothing. */
import { networkInterfaces } from 'node:os';

/** Reads them now; what it gives tells whether one is among them. */
export function ownAddresses(): (ip: string) => boolean {
  const own = new Set(Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address)));
  return (ip) => own.has(ip);
}
