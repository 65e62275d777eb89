/** Reads one line of ulogd's JSON. Pure. */
import { z } from 'zod';
import { ipv4 } from '../model/address.ts';
import { NFLOG_PREFIXES, type FlowEvent, type FlowPlace, type FlowVerdict } from '../model/flow.ts';

/** `sequence` counts what the kernel has logged to this ulogd, from 0. */
export type UlogdLine =
  | { readonly kind: 'flow'; readonly sequence: number | undefined; readonly event: FlowEvent }
  | { readonly kind: 'self-test'; readonly sequence: number | undefined; readonly sourcePort: number | undefined }
  /** Of a rule that is not ours. */
  | { readonly kind: 'foreign'; readonly sequence: number | undefined };

const line = z.object({
  'oob.prefix': z.string().default(''),
  // Its own `timestamp` is local time without a zone.
  'oob.time.sec': z.int().optional(),
  'oob.time.usec': z.int().default(0),
  'oob.seq.local': z.int().optional(),
  'ip.protocol': z.int(),
  src_ip: ipv4,
  dest_ip: ipv4,
  src_port: z.int().optional(),
  dest_port: z.int().optional(),
});

const KINDS: ReadonlyMap<string, { verdict: FlowVerdict; place: FlowPlace }> = new Map(
  (['deny', 'audit'] as const).flatMap((verdict) => (['egress', 'ingress', 'host'] as const).map((place) => [NFLOG_PREFIXES[verdict][place].trim(), { verdict, place }] as const)),
);

/** `nowMs` stands in where the kernel gave no time. Throws SyntaxError or z.ZodError for what is no such line. */
export function parseUlogdLine(text: string, nowMs: number): UlogdLine {
  const given = line.parse(JSON.parse(text));
  const prefix = given['oob.prefix'].trim();
  const sequence = given['oob.seq.local'];
  if (prefix === NFLOG_PREFIXES.selfTest) return { kind: 'self-test', sequence, sourcePort: given.src_port };
  const kind = KINDS.get(prefix);
  if (kind === undefined) return { kind: 'foreign', sequence };
  const seconds = given['oob.time.sec'];
  return {
    kind: 'flow',
    sequence,
    event: {
      timeMs: seconds === undefined ? nowMs : seconds * 1000 + Math.floor(given['oob.time.usec'] / 1000),
      from: given.src_ip,
      to: given.dest_ip,
      port: given.dest_port,
      protocol: PROTOCOLS.get(given['ip.protocol']) ?? String(given['ip.protocol']),
      ...kind,
    },
  };
}

const PROTOCOLS: ReadonlyMap<number, string> = new Map([
  [1, 'icmp'],
  [6, 'tcp'],
  [17, 'udp'],
  [132, 'sctp'],
]);
