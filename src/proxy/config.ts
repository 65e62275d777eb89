/** What the proxy process is told when it starts, and how it says that it could not; routes never come this way. */
import { z } from 'zod';
import { ClawError, type ErrorCode } from '../errors.ts';
import { cidr } from '../model/address.ts';

/** The kernel's `sun_path` holds 108 bytes, the last of them a NUL. */
const SOCKET_PATH_BYTES = 107;

const socketPath = z
  .string()
  .startsWith('/', { error: 'a socket path is absolute' })
  .refine((path) => Buffer.byteLength(path) <= SOCKET_PATH_BYTES, { error: `a socket path holds at most ${SOCKET_PATH_BYTES} bytes` });

const milliseconds = z.int().min(1);

export const proxyLimits = z.strictObject({
  clientHeadersTimeoutMs: milliseconds.default(10_000).describe('A client may take this long for its header'),
  clientRequestTimeoutMs: milliseconds.default(3_600_000).describe('A client may take this long for header and body together'),
  clientKeepAliveMs: milliseconds.default(60_000).describe('An idle client connection is closed after this time'),
  idleTimeoutMs: milliseconds.default(300_000).describe('A transfer that moves no byte for this long is cut off'),
  connectTimeoutMs: milliseconds.default(2_000).describe('An endpoint must accept a connection in this time'),
  responseHeadersTimeoutMs: milliseconds.default(60_000).describe('An endpoint must begin its answer in this time, else 504'),
  upstreamKeepAliveMs: milliseconds.default(4_000).describe('An idle upstream connection is closed after this time; below the 5 s of common servers'),
  drainTimeoutMs: milliseconds.default(30_000).describe('Running requests may take this long when the proxy stops'),
  maxHeaderBytes: z.int().min(1024).default(16_384).describe('Size of a header, in both directions'),
  maxBodyBytes: z.int().min(0).default(1_073_741_824).describe('Size of a request body'),
  maxConnections: z.int().min(1).default(10_000).describe('Client connections on one listener'),
  maxConnectionsPerClient: z.int().min(1).default(1_024).describe('Client connections from one address'),
  maxPipelinedRequests: z.int().min(1).default(32).describe('Unanswered requests on one client connection'),
  maxRequestsPerEndpoint: z.int().min(1).default(1_024).describe('Running requests of one endpoint'),
});
export type ProxyLimits = z.infer<typeof proxyLimits>;

const listenAddress = z.union([
  z.strictObject({ host: z.string().min(1), port: z.int().min(0).max(65_535) }),
  z.strictObject({ path: socketPath }),
  z.strictObject({ fd: z.int().min(3), name: z.string().min(1) }).describe('A socket that the process has inherited, and what it is bound to'),
]);
export type ListenAddress = z.infer<typeof listenAddress>;

export const proxyConfig = z.strictObject({
  controlSocket: socketPath.describe('Where the agent talks to the proxy; mode 0600'),
  listen: z.array(listenAddress).min(1).describe('Where clients are served; port 0 takes any free one'),
  routesFile: z.string().startsWith('/').optional().describe('The last snapshot; with it the proxy listens only once it has routes'),
  sibling: z
    .strictObject({ controlSocket: socketPath, yields: z.boolean().describe('Whether this one waits when both start at once') })
    .optional()
    .describe('Another proxy on the same sockets: this one serves only while that one does not'),
  trustedProxies: z.array(cidr).default([]).describe('Peers whose Forwarded and X-Forwarded-* headers are believed'),
  forbiddenRanges: z.array(cidr).describe('Ranges that are never dialled, such as the virtual IPs'),
  dialLoopback: z.boolean().default(false).describe('Whether 127.0.0.0/8 may be dialled; only tests set it'),
  limits: proxyLimits.prefault({}),
});
export type ProxyConfig = z.infer<typeof proxyConfig>;

/** The configuration in a JSON text. Throws ClawError `CONFIG_INVALID` with the path of the first offence. */
export function parseProxyConfig(text: string | undefined): ProxyConfig {
  const parsed = proxyConfig.safeParse(parseJson(text ?? ''));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const path = issue?.path.map(String).join('.') ?? '';
  throw new ClawError('CONFIG_INVALID', `proxy configuration: ${issue?.message ?? 'invalid'}`, { path, hint: 'The only argument is one JSON object.' });
}

const EXIT_CODES: Partial<Record<ErrorCode, number>> = { CONFIG_INVALID: 2, CONFLICT: 3, PERMISSION_DENIED: 4 };

/** The exit code for an error at start: 2 bad configuration, 3 address or socket in use, 4 not permitted, 1 anything else. */
export function exitCodeOf(error: ClawError): number {
  return EXIT_CODES[error.code] ?? 1;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new ClawError('CONFIG_INVALID', 'the proxy configuration is not JSON', { cause, hint: 'The only argument is one JSON object.' });
  }
}
