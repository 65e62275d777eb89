/** IPv4 addresses, ranges and ports as branded types, and the arithmetic on them. IPv4 only; imports nothing local. */
import ipaddr from 'ipaddr.js';
import { z } from 'zod';

/** A dotted quad without leading zeros, e.g. `10.201.0.1`. */
export const ipv4 = z
  .string()
  .refine((text) => ipaddr.IPv4.isValidFourPartDecimal(text), { error: (issue) => `${quote(issue.input)} is not an IPv4 address such as 10.0.0.1` })
  .brand('Ipv4');
export type Ipv4 = z.infer<typeof ipv4>;

/** A range whose host bits are zero, e.g. `10.201.0.0/16`. */
export const cidr = z
  .string()
  .refine(isCidr, { error: (issue) => `${quote(issue.input)} is not an IPv4 range such as 10.0.0.0/8 (host bits must be zero)` })
  .brand('Cidr');
export type Cidr = z.infer<typeof cidr>;

/** A transport port, 1 to 65535. */
export const port = z
  .int({ error: (issue) => `${quote(issue.input)} is not a port number` })
  .min(1, { error: (issue) => `${String(issue.input)} is below 1, the lowest port` })
  .max(65535, { error: (issue) => `${String(issue.input)} is above 65535, the highest port` })
  .brand('Port');
export type Port = z.infer<typeof port>;

export const protocol = z.enum(['tcp', 'udp']);
export type Protocol = z.infer<typeof protocol>;

/** The address as an unsigned 32-bit number. */
export function toNumber(address: Ipv4): number {
  return address.split('.').reduce((sum, octet) => sum * 256 + Number(octet), 0);
}

/** The address of an unsigned 32-bit number. Throws RangeError for any other number. */
export function fromNumber(value: number): Ipv4 {
  const text = `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
  if (!isAddressText(text, value)) throw new RangeError(`${value} is not an unsigned 32-bit number`);
  return text;
}

/** First and last address of a range as numbers, and its prefix length in bits. */
export function bounds(range: Cidr): { first: number; last: number; prefix: number } {
  const [base = '', bits = ''] = range.split('/');
  const prefix = Number(bits);
  const first = toNumber(ipv4.parse(base));
  return { first, last: first + 2 ** (32 - prefix) - 1, prefix };
}

/** Whether the address lies in the range. */
export function contains(range: Cidr, address: Ipv4): boolean {
  const { first, last } = bounds(range);
  const value = toNumber(address);
  return value >= first && value <= last;
}

/** Whether two ranges share an address. */
export function overlaps(a: Cidr, b: Cidr): boolean {
  const x = bounds(a);
  const y = bounds(b);
  return x.first <= y.last && y.first <= x.last;
}

/** Four octets of an unsigned 32-bit number are an address by construction; allocators make too many of them to parse each. */
function isAddressText(text: string, value: number): text is Ipv4 {
  return Number.isInteger(value) && value >= 0 && value <= 0xffffffff && text !== '';
}

function isCidr(text: string): boolean {
  const [base = '', bits = '', ...rest] = text.split('/');
  if (rest.length > 0 || !/^(0|[1-9]\d?)$/.test(bits) || Number(bits) > 32) return false;
  if (!ipaddr.IPv4.isValidFourPartDecimal(base)) return false;
  return ipaddr.IPv4.networkAddressFromCIDR(text).toString() === base;
}

/** A value as it may be shown in an error: quoted, and cut so that a huge argument does not flood the answer. */
function quote(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
