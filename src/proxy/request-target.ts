/** Reads a request's target and authority into the one form that is both routed and forwarded, or refuses them; knows no rule. */

export type RequestTarget =
  /** `OPTIONS *`: it asks about this server, not about a resource behind it. */
  | { readonly kind: 'server' }
  | {
      readonly kind: 'resource';
      /** Normalised, starts with `/`, no query. */
      readonly path: string;
      /** With its `?`, or empty. */
      readonly query: string;
      /**
       * How a careless backend could read the path: reserved characters decoded (`%2F` as a slash), empty segments merged. Present only
       * when that differs. A request for which it leads to another rule is ambiguous.
       */
      readonly loosePath: string | undefined;
      /** The authority of an absolute-form target; it replaces the Host header (RFC 9112, section 3.2.2). */
      readonly authority: string | undefined;
    };

/** The target of a request line, or undefined when it is malformed or ambiguous (to be answered with 400). */
export function parseRequestTarget(method: string, target: string): RequestTarget | undefined {
  if (target === '*') return method === 'OPTIONS' ? { kind: 'server' } : undefined;
  const absolute = target.startsWith('/') ? undefined : ABSOLUTE_FORM.exec(target);
  if (absolute === null) return undefined;
  const [, authority, rest = target] = absolute ?? [];
  const queryStart = rest.indexOf('?');
  const path = normalisePath((queryStart === -1 ? rest : rest.slice(0, queryStart)) || '/');
  const query = queryStart === -1 ? '' : rest.slice(queryStart);
  if (path === undefined || FORBIDDEN_IN_QUERY.test(query)) return undefined;
  return { kind: 'resource', ...path, query, authority };
}

/** The host to route by: lower case, without port and trailing dot. Undefined when the authority is malformed. */
export function routingHost(authority: string): string | undefined {
  const [, host = ''] = AUTHORITY.exec(authority) ?? [];
  const name = host.endsWith('.') ? host.slice(0, -1) : host;
  return name === '' || name.includes('..') || name.startsWith('.') ? undefined : name.toLowerCase();
}

const ABSOLUTE_FORM = /^https?:\/\/([^/?#]+)(.*)$/i;
const AUTHORITY = /^([A-Za-z0-9._-]{1,254}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{0,5})?$/;
const FORBIDDEN_IN_QUERY = /[^!-~]|#/;
/** Without any of these a path is in normal form already. */
const SUSPECT = /[^!-~]|[%\\#]|\/[./]/;
const FORBIDDEN_IN_PATH = /[^!-~]|[\\#]/;
const MALFORMED_ESCAPE = /%(?![0-9A-Fa-f]{2})/;
/** Control characters and the backslash, which some servers take for a slash. */
const FORBIDDEN_ESCAPE = /%(?:[01][0-9A-Fa-f]|5[Cc]|7[Ff])/;
/** `-` `.` digits, letters, `_` `~`: escaped or not, they mean the same (RFC 3986, section 2.3). */
const UNRESERVED = /[A-Za-z0-9\-._~]/;
/** Reserved characters that a rule's path may hold, and the slash. */
const ESCAPED_RESERVED = /%(?:2[146-9A-Ca-cFf]|3[ABDabd]|40)/g;
/** Servlet containers drop what follows `;` in a segment and then take the rest for a dot segment. */
const DOT_SEGMENT = /^\.{1,2}(?:;|$)/;

function normalisePath(raw: string): { path: string; loosePath: string | undefined } | undefined {
  if (!SUSPECT.test(raw)) return { path: raw, loosePath: undefined };
  if (FORBIDDEN_IN_PATH.test(raw) || MALFORMED_ESCAPE.test(raw) || FORBIDDEN_ESCAPE.test(raw)) return undefined;
  const path = removeDotSegments(raw.replaceAll(/%[0-9A-Fa-f]{2}/g, decodeUnreserved));
  if (path === undefined) return undefined;
  const loose = path.replaceAll(ESCAPED_RESERVED, decode).replaceAll(/\/{2,}/g, '/');
  if (loose.split('/').some((segment) => DOT_SEGMENT.test(segment))) return undefined;
  return { path, loosePath: loose === path ? undefined : loose };
}

function decodeUnreserved(escaped: string): string {
  const character = decode(escaped);
  return UNRESERVED.test(character) ? character : escaped;
}

function decode(escaped: string): string {
  return String.fromCharCode(Number.parseInt(escaped.slice(1), 16));
}

/** RFC 3986, section 5.2.4, but a path that climbs above the root is refused: nobody sends that in good faith. */
function removeDotSegments(path: string): string | undefined {
  const kept: string[] = [];
  const segments = path.split('/').slice(1);
  for (const [index, segment] of segments.entries()) {
    if (segment === '..' && kept.pop() === undefined) return undefined;
    const isDots = segment === '.' || segment === '..';
    if (!isDots) kept.push(segment);
    else if (index === segments.length - 1) kept.push('');
  }
  return `/${kept.join('/')}`;
}
