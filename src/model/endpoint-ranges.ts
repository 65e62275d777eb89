/** Where no endpoint of a service may lie, whoever names it; imports nothing local but its parts. */
import { cidr, type Cidr } from './address.ts';

/** Addresses of the node itself, of link-local services such as a cloud's metadata, and what is no unicast address. */
export const FORBIDDEN_ENDPOINTS: readonly { readonly range: Cidr; readonly what: string }[] = [
  { range: cidr.parse('0.0.0.0/8'), what: 'no address of a host' },
  { range: cidr.parse('127.0.0.0/8'), what: 'loopback' },
  { range: cidr.parse('169.254.0.0/16'), what: 'link-local, where cloud metadata lives' },
  { range: cidr.parse('100.100.100.200/32'), what: 'the metadata service of Alibaba Cloud' },
  { range: cidr.parse('168.63.129.16/32'), what: 'the metadata service of Azure' },
  { range: cidr.parse('224.0.0.0/3'), what: 'multicast or reserved' },
];
