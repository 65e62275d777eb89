/** Finds the rule for a host and path in time that does not depend on the number of rules. Pure: built once, never changed. */

export interface RoutingRule<Value> {
  /** Lower case, no port, no trailing dot; `*.example.com` covers exactly one more label. */
  readonly host: string;
  /** Whole segments; no trailing slash but for `/`. */
  readonly path: string;
  readonly value: Value;
}

export interface RoutingTable<Value> {
  /**
   * The value of the best rule: an exact host beats a wildcard, then the longest prefix wins. A wildcard rule still serves the paths
   * that no rule of the exact host covers. `host` is in lower case without port and trailing dot, `path` has no query.
   */
  readonly lookup: (host: string, path: string) => Value | undefined;
  readonly size: number;
}

/** Builds the table. Of two rules with the same host and path the first one counts. */
export function buildRoutingTable<Value>(rules: Iterable<RoutingRule<Value>>): RoutingTable<Value> {
  const exact = new Map<string, Prefixes<Value>>();
  const wildcard = new Map<string, Prefixes<Value>>();
  let size = 0;
  for (const { host, path, value } of rules) {
    const isWildcard = host.startsWith('*.');
    if (insert(isWildcard ? wildcard : exact, { key: isWildcard ? host.slice(2) : host, path, value })) size += 1;
  }
  const lookup = (host: string, path: string): Value | undefined => {
    const found = longestPrefix(exact.get(host), path);
    if (found !== undefined || wildcard.size === 0) return found;
    const firstDot = host.indexOf('.');
    return firstDot > 0 ? longestPrefix(wildcard.get(host.slice(firstDot + 1)), path) : undefined;
  };
  return { lookup, size };
}

interface Prefixes<Value> {
  readonly byPath: Map<string, Value>;
  /** Characters of the longest prefix: a request's path is cut to it first, so that a path of thousands of segments costs no more. */
  longest: number;
}

function insert<Value>(hosts: Map<string, Prefixes<Value>>, { key, path, value }: { key: string; path: string; value: Value }): boolean {
  const prefixes = hosts.get(key) ?? { byPath: new Map<string, Value>(), longest: 0 };
  hosts.set(key, prefixes);
  if (prefixes.byPath.has(path)) return false;
  prefixes.byPath.set(path, value);
  prefixes.longest = Math.max(prefixes.longest, path.length);
  return true;
}

/** Walks from the whole path up to `/`, one segment at a time. */
function longestPrefix<Value>(prefixes: Prefixes<Value> | undefined, path: string): Value | undefined {
  if (prefixes === undefined) return undefined;
  let end = path.length > prefixes.longest ? path.lastIndexOf('/', prefixes.longest) : path.length;
  while (end > 0) {
    const found = prefixes.byPath.get(path.slice(0, end));
    if (found !== undefined) return found;
    end = path.lastIndexOf('/', end - 1);
  }
  return prefixes.byPath.get('/');
}
