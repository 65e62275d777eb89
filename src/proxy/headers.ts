/** Turns a client's header into the upstream's and back: hop-by-hop fields end here, forwarding fields are ours. Pure. */
import type { IncomingMessage } from 'node:http';

/** The other end of a client connection. */
export interface Peer {
  /** Undefined on a unix socket. */
  readonly address: string | undefined;
  /** Whether its Forwarded and X-Forwarded-* fields are believed. */
  readonly trusted: boolean;
}

/** Fields that concern one connection only (RFC 9110, section 7.6.1), and those that are set anew for every request. */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'http2-settings',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'transfer-encoding',
  'upgrade',
]);
/** `Expect` is answered by the proxy itself; request trailers are not passed on, so neither is their announcement. */
const NOT_FORWARDED: ReadonlySet<string> = new Set([...HOP_BY_HOP, 'expect', 'host', 'trailer', 'via']);
/** What must not come after a body, because it frames or routes the message (RFC 9110, section 6.5.1). */
const FORBIDDEN_TRAILERS: ReadonlySet<string> = new Set([...HOP_BY_HOP, 'content-encoding', 'content-length', 'content-range', 'content-type', 'host', 'set-cookie', 'trailer']);

export interface ForwardingFacts {
  readonly peer: Peer;
  /** Host and port as the client named them. */
  readonly authority: string;
  readonly scheme: 'http' | 'https';
  /** The name of this proxy process in Via. */
  readonly pseudonym: string;
}

/** The flat header array for the upstream; order, case and repetition of the client's own fields are kept. */
export function requestHeaders(request: IncomingMessage, { peer, authority, scheme, pseudonym }: ForwardingFacts): string[] {
  const { rawHeaders, headers } = request;
  const named = connectionOptions(headers.connection);
  const result = ['Host', authority];
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] ?? '';
    const key = name.toLowerCase();
    if (NOT_FORWARDED.has(key) || named?.has(key) === true || isForwardingField(key)) continue;
    if (key === 'content-length' && headers['transfer-encoding'] !== undefined) continue;
    result.push(name, rawHeaders[index + 1] ?? '');
  }
  if (/(?:^|,)\s*trailers\s*(?:,|;|$)/i.test(text(headers.te) ?? '')) result.push('TE', 'trailers');
  const believed = peer.trusted ? headers : {};
  if (peer.address !== undefined) result.push('X-Forwarded-For', appended(believed['x-forwarded-for'], peer.address));
  result.push('X-Forwarded-Host', text(believed['x-forwarded-host']) ?? authority);
  result.push('X-Forwarded-Proto', text(believed['x-forwarded-proto']) ?? scheme);
  result.push('Forwarded', appended(believed.forwarded, `for=${nodeIdentifier(peer.address)};host="${authority}";proto=${scheme}`));
  result.push('Via', appended(headers.via, `${request.httpVersion} ${pseudonym}`));
  return result;
}

/** Whether the request has passed this very process before. */
export function hasLooped(request: IncomingMessage, pseudonym: string): boolean {
  return request.headers.via?.includes(pseudonym) === true;
}

/** The flat header array for the client. `announceTrailers` is false when the answer cannot carry any (no chunks). */
export function responseHeaders(raw: readonly string[], { announceTrailers }: { announceTrailers: boolean }): string[] {
  let named: ReadonlySet<string> | undefined;
  let hasLength = false;
  for (let index = 0; index < raw.length; index += 2) {
    const name = raw[index] ?? '';
    if (name.length === 10 && name.toLowerCase() === 'connection') named = new Set([...(named ?? []), ...(connectionOptions(raw[index + 1]) ?? [])]);
    else if (name.length === 14 && name.toLowerCase() === 'content-length') hasLength = true;
  }
  const result: string[] = [];
  for (let index = 0; index < raw.length; index += 2) {
    const name = raw[index] ?? '';
    const key = name.toLowerCase();
    if (HOP_BY_HOP.has(key) || named?.has(key) === true) continue;
    // Node refuses to send a Trailer field with an answer that is not chunked.
    if (key === 'trailer' && (hasLength || !announceTrailers)) continue;
    result.push(name, raw[index + 1] ?? '');
  }
  return result;
}

/** The trailers that may be passed on, as pairs. */
export function responseTrailers(raw: readonly string[]): [string, string][] {
  const result: [string, string][] = [];
  for (let index = 0; index < raw.length; index += 2) {
    const name = raw[index] ?? '';
    if (!FORBIDDEN_TRAILERS.has(name.toLowerCase())) result.push([name, raw[index + 1] ?? '']);
  }
  return result;
}

/** The field names that a Connection field lists. Framing and routing do not depend on them, so any may be named. */
function connectionOptions(value: string | undefined): ReadonlySet<string> | undefined {
  if (value === undefined) return undefined;
  const tokens = value.toLowerCase().split(',').map((token) => token.trim());
  const named = new Set(tokens.filter((token) => token !== 'close' && token !== 'content-length'));
  return named.size === 0 ? undefined : named;
}

/** Also `X_Forwarded_For`: CGI and WSGI turn both spellings into the same variable. */
function isForwardingField(key: string): boolean {
  const dashed = key.includes('_') ? key.replaceAll('_', '-') : key;
  return dashed === 'forwarded' || dashed === 'x-real-ip' || dashed.startsWith('x-forwarded-');
}

function appended(before: string | string[] | undefined, own: string): string {
  const earlier = text(before);
  return earlier === undefined ? own : `${earlier}, ${own}`;
}

function text(value: string | string[] | undefined): string | undefined {
  const joined = Array.isArray(value) ? value.join(', ') : value;
  return joined === '' ? undefined : joined;
}

/** RFC 7239, section 6: IPv6 addresses are bracketed and quoted, a peer without an address is `unknown`. */
function nodeIdentifier(address: string | undefined): string {
  if (address === undefined) return 'unknown';
  return address.includes(':') ? `"[${address}]"` : address;
}
