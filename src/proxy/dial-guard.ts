/** Says which addresses the proxy never dials, whatever its routes say; it never dials itself. */
import { bounds, cidr, toNumber, type Cidr, type Ipv4 } from '../model/address.ts';

/** Why the address must not be dialled, or undefined when it may be. */
export type DialGuard = (address: Ipv4) => string | undefined;

const LOOPBACK = '127.0.0.0/8';

const NEVER: readonly (readonly [range: string, what: string])[] = [
  ['0.0.0.0/8', 'the unspecified network'],
  [LOOPBACK, 'loopback'],
  ['169.254.0.0/16', 'link-local, where clouds keep their metadata'],
  ['100.100.100.200/32', 'a cloud metadata address'],
  ['168.63.129.16/32', 'a cloud metadata address'],
  ['224.0.0.0/4', 'multicast'],
  ['240.0.0.0/4', 'reserved or broadcast'],
];

/** A guard over the ranges that are never dialled and the given ones. `dialLoopback` lifts 127.0.0.0/8, for tests. */
export function createDialGuard({ forbiddenRanges, dialLoopback }: { forbiddenRanges: readonly Cidr[]; dialLoopback: boolean }): DialGuard {
  const fixed = NEVER.filter(([range]) => !(dialLoopback && range === LOOPBACK)).map(([range, what]) => forbid(cidr.parse(range), what));
  const configured = forbiddenRanges.map((range) => forbid(range, 'a range this proxy is told not to dial'));
  const forbidden = [...fixed, ...configured];
  return (address) => {
    const value = toNumber(address);
    const hit = forbidden.find(({ first, last }) => value >= first && value <= last);
    return hit && `${address} is in ${hit.range}: ${hit.what}`;
  };
}

function forbid(range: Cidr, what: string): { range: Cidr; what: string; first: number; last: number } {
  return { range, what, ...bounds(range) };
}
